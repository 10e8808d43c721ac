/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The machine's IOMMU, as far as a kernel shows it, and whether the VMM can drive it (docs/decisions/0011-iommu.md). */
#ifndef IOMMU_H
#define IOMMU_H

/* "vt-d", "amd-vi" or "none". */
const char *iommu_kind(void);

/* A word for why the VMM would leave the units alone; NULL where nothing that can be seen from here speaks against them. */
const char *iommu_limit(void);

/* What the word means, as a reason; NULL for one that is unknown. */
const char *limit_text(const char *limit);

#endif
