/* SPDX-License-Identifier: GPL-2.0 */
/* The ELF view of the snapshot: LIVEDUMP_IMAGE_PATH. */
#ifndef _LIVEDUMP_IMAGE_H
#define _LIVEDUMP_IMAGE_H

#include <linux/fs.h>
#include "uapi/livedump.h"

int ld_image_init(void);
void ld_image_exit(void);

/* Reserve room for headers and notes, before the stop; 0 or -ENOMEM. */
int ld_image_prepare(void);
void ld_image_free(void);

/* Fill in headers and notes, and let readers in. */
void ld_image_open(const struct livedump_report *report);
/* The report has changed: so does its note. */
void ld_image_update(const struct livedump_report *report);
/* Keep readers out; returns when the last one has left. */
void ld_image_close(void);

/* Whom to tell when an open file goes away. */
void ld_image_on_close(void (*fn)(const struct file *file));

/* True when @file is an open file of the image. */
bool ld_image_is_file(const struct file *file);

#endif
