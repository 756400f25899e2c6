// SPDX-License-Identifier: GPL-2.0
#include <linux/capability.h>
#include <linux/file.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <net/genetlink.h>

#include "genl.h"
#include "image.h"
#include "session.h"

static struct genl_family family;

static const struct nla_policy snapshot_policy[__LIVEDUMP_ATTR_MAX] = {
	[LIVEDUMP_ATTR_STRATEGY] = { .type = NLA_U32 },
	[LIVEDUMP_ATTR_FLAGS] = NLA_POLICY_MASK(NLA_U32, LIVEDUMP_F_PERSIST),
	[LIVEDUMP_ATTR_OWNER_FD] = { .type = NLA_U32 },
	[LIVEDUMP_ATTR_POOL_BYTES] = { .type = NLA_U64 },
	[LIVEDUMP_ATTR_MAX_HOLD_MS] = { .type = NLA_U32 },
};

/* GENL_ADMIN_PERM checks CAP_NET_ADMIN only; this is the whole machine. */
static int allowed(struct sk_buff *skb, struct genl_info *info)
{
	if (netlink_capable(skb, CAP_SYS_ADMIN))
		return 0;
	GENL_SET_ERR_MSG(info, "CAP_SYS_ADMIN is needed");
	return -EPERM;
}

/*
 * A snapshot is kernel memory to be read. To see that one is held, and to let
 * go of it, stays possible when lockdown comes later.
 */
static int allowed_to_read(struct sk_buff *skb, struct genl_info *info)
{
	int err = allowed(skb, info);

	if (err)
		return err;
	err = security_locked_down(LOCKDOWN_KCORE);
	if (err)
		GENL_SET_ERR_MSG(info, "kernel lockdown forbids reading kernel memory");
	return err;
}

static int put_status(struct sk_buff *msg, const struct ld_status *status)
{
	const struct livedump_report *report = &status->report;

	if (nla_put_u32(msg, LIVEDUMP_ATTR_STATE, report->state) ||
	    nla_put_u32(msg, LIVEDUMP_ATTR_STEP, status->step) ||
	    nla_put_u32(msg, LIVEDUMP_ATTR_STRATEGY, report->strategy) ||
	    nla_put_u32(msg, LIVEDUMP_ATTR_FLAGS, report->flags) ||
	    nla_put_u32(msg, LIVEDUMP_ATTR_OWNER_PID, status->owner_pid) ||
	    nla_put_u32(msg, LIVEDUMP_ATTR_REASON, status->reason) ||
	    nla_put_u32(msg, LIVEDUMP_ATTR_REFUSAL, status->refusal) ||
	    nla_put_u32(msg, LIVEDUMP_ATTR_MACHINE, status->machine) ||
	    nla_put_u64_64bit(msg, LIVEDUMP_ATTR_DEFAULT_POOL,
			      status->default_pool, LIVEDUMP_ATTR_PAD) ||
	    nla_put(msg, LIVEDUMP_ATTR_REPORT, sizeof(*report), report))
		return -EMSGSIZE;
	if (status->error[0] &&
	    nla_put_string(msg, LIVEDUMP_ATTR_ERROR, status->error))
		return -EMSGSIZE;
	return 0;
}

static int reply_status(struct genl_info *info, const struct ld_status *status)
{
	struct sk_buff *msg = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	void *head;

	if (!msg)
		return -ENOMEM;
	head = genlmsg_put_reply(msg, info, &family, 0, info->genlhdr->cmd);
	if (!head || put_status(msg, status)) {
		nlmsg_free(msg);
		return -EMSGSIZE;
	}
	genlmsg_end(msg, head);
	return genlmsg_reply(msg, info);
}

static int answer_status(struct genl_info *info)
{
	struct ld_status *status = kmalloc(sizeof(*status), GFP_KERNEL);
	int err;

	if (!status)
		return -ENOMEM;
	err = ld_session_status(status) ?: reply_status(info, status);
	kfree(status);
	return err;
}

static int status_doit(struct sk_buff *skb, struct genl_info *info)
{
	return allowed(skb, info) ?: answer_status(info);
}

static u32 get_u32(struct genl_info *info, int attr)
{
	return info->attrs[attr] ? nla_get_u32(info->attrs[attr]) : 0;
}

/*
 * We run in the sender's context: its descriptors are ours. An owner's file is
 * held until the request is done; the session only compares it later, with files
 * that are closed.
 */
static int find_owner(struct genl_info *info, struct ld_request *request)
{
	struct nlattr *fd = info->attrs[LIVEDUMP_ATTR_OWNER_FD];
	struct file *file = fd ? fget(nla_get_u32(fd)) : NULL;
	bool ours = file && ld_image_is_file(file);

	if (ours && !(request->flags & LIVEDUMP_F_PERSIST)) {
		request->owner = file;
		return 0;
	}
	if (file)
		fput(file);
	if (!fd || ours)
		return 0;
	GENL_SET_ERR_MSG(info, "the owner is not an open " LIVEDUMP_IMAGE_PATH);
	return -EBADF;
}

/* A refusal is an answer, with its reason; only what we cannot say is an error. */
static int snapshot_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct nlattr *pool = info->attrs[LIVEDUMP_ATTR_POOL_BYTES];
	struct ld_request request = {
		.strategy = get_u32(info, LIVEDUMP_ATTR_STRATEGY),
		.flags = get_u32(info, LIVEDUMP_ATTR_FLAGS),
		.pool_bytes = pool ? nla_get_u64(pool) : 0,
		.max_hold_ms = get_u32(info, LIVEDUMP_ATTR_MAX_HOLD_MS),
	};
	struct ld_status *answer;
	int err = allowed_to_read(skb, info) ?: find_owner(info, &request);

	if (err)
		return err;
	answer = kmalloc(sizeof(*answer), GFP_KERNEL);
	err = answer ? ld_session_snapshot(&request, answer) : -ENOMEM;
	if (err != -ENOMEM && err != -EINTR)
		err = reply_status(info, answer);
	kfree(answer);
	if (request.owner)
		fput(request.owner);
	return err;
}

static int release_doit(struct sk_buff *skb, struct genl_info *info)
{
	int err = allowed(skb, info) ?:
		  ld_session_release(LIVEDUMP_REASON_REQUEST);

	if (err == -ENOENT)
		GENL_SET_ERR_MSG(info, "no snapshot is held");
	return err ?: answer_status(info);
}

static int put_lost(struct sk_buff *msg, struct netlink_callback *cb,
		    unsigned long pfn)
{
	void *head = genlmsg_put(msg, NETLINK_CB(cb->skb).portid,
				 cb->nlh->nlmsg_seq, &family, NLM_F_MULTI,
				 LIVEDUMP_CMD_LOST);

	if (!head)
		return -EMSGSIZE;
	if (nla_put_u64_64bit(msg, LIVEDUMP_ATTR_LOST_PFN, pfn,
			      LIVEDUMP_ATTR_PAD)) {
		genlmsg_cancel(msg, head);
		return -EMSGSIZE;
	}
	genlmsg_end(msg, head);
	return 0;
}

static int lost_dumpit(struct sk_buff *msg, struct netlink_callback *cb)
{
	unsigned long pfn = cb->args[0];

	if (!netlink_capable(cb->skb, CAP_SYS_ADMIN))
		return -EPERM;
	while (ld_session_next_lost(&pfn)) {
		if (put_lost(msg, cb, pfn))
			break;
		pfn++;
	}
	cb->args[0] = pfn;
	return msg->len;
}

static void send_event(u32 event, const struct ld_status *status)
{
	struct sk_buff *msg = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	void *head;

	if (!msg)
		return;
	head = genlmsg_put(msg, 0, 0, &family, 0, LIVEDUMP_CMD_EVENT);
	if (!head || nla_put_u32(msg, LIVEDUMP_ATTR_EVENT, event) ||
	    put_status(msg, status)) {
		nlmsg_free(msg);
		return;
	}
	genlmsg_end(msg, head);
	/* Nobody listening is no error. */
	genlmsg_multicast(&family, msg, 0, 0, GFP_KERNEL);
}

static const struct genl_ops ops[] = {
	{
		.cmd = LIVEDUMP_CMD_STATUS,
		.doit = status_doit,
		.flags = GENL_ADMIN_PERM,
	},
	{
		.cmd = LIVEDUMP_CMD_SNAPSHOT,
		.doit = snapshot_doit,
		.flags = GENL_ADMIN_PERM,
		.policy = snapshot_policy,
		.maxattr = __LIVEDUMP_ATTR_MAX - 1,
	},
	{
		.cmd = LIVEDUMP_CMD_RELEASE,
		.doit = release_doit,
		.flags = GENL_ADMIN_PERM,
	},
	{
		.cmd = LIVEDUMP_CMD_LOST,
		.dumpit = lost_dumpit,
		.flags = GENL_ADMIN_PERM,
	},
};

static const struct genl_multicast_group groups[] = {
	{ .name = LIVEDUMP_GENL_GROUP, .flags = GENL_MCAST_CAP_SYS_ADMIN },
};

static struct genl_family family = {
	.name = LIVEDUMP_GENL_NAME,
	.version = LIVEDUMP_GENL_VERSION,
	.module = THIS_MODULE,
	.ops = ops,
	.n_ops = ARRAY_SIZE(ops),
	.mcgrps = groups,
	.n_mcgrps = ARRAY_SIZE(groups),
	.parallel_ops = true,
};

int ld_genl_init(void)
{
	int err = genl_register_family(&family);

	if (!err)
		ld_session_on_event(send_event);
	return err;
}

void ld_genl_exit(void)
{
	ld_session_on_event(NULL);
	genl_unregister_family(&family);
}
