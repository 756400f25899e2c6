// SPDX-License-Identifier: GPL-2.0
/*
 * A crash extension for older crash; Debian 12 has 8.0.2, which needs it.
 *
 * Linux b69f0aeb0689 ("pid: Replace struct pid 1-element array with
 * flex-array", 6.5, in 6.1.y since) took the only upid out of sizeof(struct
 * pid). Older crash reads that many bytes and looks for the upid behind them:
 * it finds no task but the idle ones. Put the size right and read the tasks
 * again. Nothing happens where the size is right.
 */
#include <crash/defs.h>

void __attribute__((constructor)) livedump_pid_init(void);
void __attribute__((constructor)) livedump_pid_init(void)
{
	if (SIZE(pid) > OFFSET(pid_numbers))
		return;
	ASSIGN_SIZE(pid) = OFFSET(pid_numbers) + SIZE(upid);
	tt->flags &= ~TASK_INIT_DONE;
	tt->refresh_task_table();
	tt->flags |= TASK_INIT_DONE;
}
