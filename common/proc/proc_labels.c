// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_labels.h"

static void label_source(struct slice *labels, const struct workload *workload) {
    labels[METRIC_LABEL(TRAFFIC, SOURCE_WORKLOAD)] = slice_str(workload_owner_name(workload));
    labels[METRIC_LABEL(TRAFFIC, SOURCE_CANONICAL_SERVICE)] =
        slice_str(workload_canonical_name(workload));
    labels[METRIC_LABEL(TRAFFIC, SOURCE_CANONICAL_REVISION)] =
        slice_str(workload->common->canonical_revision);
    labels[METRIC_LABEL(TRAFFIC, SOURCE_WORKLOAD_NAMESPACE)] = slice_str(workload->ns);
    labels[METRIC_LABEL(TRAFFIC, SOURCE_APP)] = slice_str(workload_app(workload));
    labels[METRIC_LABEL(TRAFFIC, SOURCE_VERSION)] = slice_str(workload->common->version);
    labels[METRIC_LABEL(TRAFFIC, SOURCE_CLUSTER)] = slice_str(workload->common->cluster);
    labels[METRIC_LABEL(TRAFFIC, SOURCE_REGION)] = slice_str(workload->common->locality.region);
    labels[METRIC_LABEL(TRAFFIC, SOURCE_ZONE)] = slice_str(workload->common->locality.zone);
}

static void label_destination(struct slice *labels, const struct workload *workload) {
    labels[METRIC_LABEL(TRAFFIC, DESTINATION_WORKLOAD)] = slice_str(workload_owner_name(workload));
    labels[METRIC_LABEL(TRAFFIC, DESTINATION_CANONICAL_SERVICE)] =
        slice_str(workload_canonical_name(workload));
    labels[METRIC_LABEL(TRAFFIC, DESTINATION_CANONICAL_REVISION)] =
        slice_str(workload->common->canonical_revision);
    labels[METRIC_LABEL(TRAFFIC, DESTINATION_WORKLOAD_NAMESPACE)] = slice_str(workload->ns);
    labels[METRIC_LABEL(TRAFFIC, DESTINATION_APP)] = slice_str(workload_app(workload));
    labels[METRIC_LABEL(TRAFFIC, DESTINATION_VERSION)] = slice_str(workload->common->version);
    labels[METRIC_LABEL(TRAFFIC, DESTINATION_CLUSTER)] = slice_str(workload->common->cluster);
    labels[METRIC_LABEL(TRAFFIC, DESTINATION_REGION)] =
        slice_str(workload->common->locality.region);
    labels[METRIC_LABEL(TRAFFIC, DESTINATION_ZONE)] = slice_str(workload->common->locality.zone);
}

void proc_labels_ends(struct slice labels[METRIC_N_LABELS(TRAFFIC)], const struct workload *source,
                      const struct workload *destination, const struct service *service) {
    if (source != NULL) {
        label_source(labels, source);
    }
    if (destination != NULL) {
        label_destination(labels, destination);
    }
    if (service != NULL) {
        labels[METRIC_LABEL(TRAFFIC, DESTINATION_SERVICE)] = slice_str(service->hostname);
        labels[METRIC_LABEL(TRAFFIC, DESTINATION_SERVICE_NAMESPACE)] = slice_str(service->ns);
        labels[METRIC_LABEL(TRAFFIC, DESTINATION_SERVICE_NAME)] = slice_str(service->name);
    }
}

void proc_labels_baggage(const struct workload *workload, struct hbone_baggage *ret_baggage) {
    *ret_baggage = (struct hbone_baggage){
        .cluster = slice_str(workload->common->cluster),
        .ns = slice_str(workload->ns),
        .workload_type = slice_str(workload->common->owner_type),
        .workload = slice_str(workload_owner_name(workload)),
        .service = slice_str(workload_canonical_name(workload)),
        .revision = slice_str(workload->common->canonical_revision),
        .region = slice_str(workload->common->locality.region),
        .zone = slice_str(workload->common->locality.zone),
    };
}
