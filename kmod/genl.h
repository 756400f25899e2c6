/* SPDX-License-Identifier: GPL-2.0 */
/* Generic netlink: validate, then call session. */
#ifndef _LIVEDUMP_GENL_H
#define _LIVEDUMP_GENL_H

int ld_genl_init(void);
void ld_genl_exit(void);

#endif
