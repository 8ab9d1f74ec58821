// SPDX-License-Identifier: Apache-2.0
//
// The tables of a PodSpec, which are in several files.
#pragma once

#include "common/mesh/kobj_priv.h"

extern const struct schema_msg kobj_container_msg, kobj_volume_msg;
