// SPDX-License-Identifier: GPL-2.0
#include <linux/kernel.h>

#include "stop/strategy.h"

static const struct ld_strategy *const strategies[] = { &ld_lazy, &ld_eager };

const struct ld_strategy *ld_strategy_find(u32 id)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(strategies); i++)
		if (strategies[i]->id == id)
			return strategies[i];
	return NULL;
}
