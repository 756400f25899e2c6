/* SPDX-License-Identifier: GPL-2.0 */
/* Generic netlink: validate, then call session. */
#ifndef _LIVEDUMP_GENL_H
#define _LIVEDUMP_GENL_H

#include "session.h"

int ld_genl_init(void);
void ld_genl_exit(void);

/* Tell whoever listens to LIVEDUMP_GENL_GROUP. */
void ld_genl_event(u32 event, const struct ld_status *status);

#endif
