// SPDX-License-Identifier: Apache-2.0
//
// ProxyConfig, as Istio's injector and operators give it to a proxy: PROXY_CONFIG of the
// environment (YAML or JSON), field by field before `defaultConfig` of a MeshConfig in a file. Of
// its fields those count that ztunnel reads: discoveryAddress, concurrency, proxyAdminPort,
// statsPort and proxyMetadata; all others are Envoy's and are passed over.
//
// They are defaults: variables of the environment and flags count before them.
//
// Thread: main, before others exist (proxyMetadata becomes part of the environment).
#pragma once

#include "common/proc/proc_config.h"

#define PROC_MESH_FILE "./etc/istio/config/mesh" // where ztunnel looks

// After proc_config_defaults(), before proc_options_parse(). `text` is that of PROXY_CONFIG; NULL,
// "": there is none. A file that is not there is none either. Entries of proxyMetadata are set in
// the environment, with ISTIO_META_ in front, unless they are there. Prints what is wrong: false.
bool proc_proxy_config(struct proc_config *config, const char *program, const char *mesh_file,
                       const char *text);
