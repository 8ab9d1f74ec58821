// SPDX-License-Identifier: Apache-2.0
//
// What is wrong with the configuration, and where: for /status.
#include <stdlib.h>

#include "common/mesh/builder.h"
#include "common/mesh/kobj.h"
#include "common/mesh/source_file.h"
#include "common/proc/proc_dump.h"

// ---- source ------------------------------------------------------------------------------------

static void put_messages(struct json_out *out, const struct config_errors *errors) {
    for (uint32_t i = 0; errors != NULL && i < errors->n; i++) {
        char *text = config_error_text(&errors->items[i]);
        json_out_string(out, slice_str(text));
        free(text);
    }
}

// Only files that have something to say.
static void put_file(void *arg, const struct source_file_entry *entry) {
    struct json_out *out = arg;
    bool has_news = (entry->errors != NULL && entry->errors->n > 0) ||
                    (entry->duplicates != NULL && entry->duplicates->n > 0);
    if (!has_news && entry->error == 0 && entry->n_kept == 0) {
        return;
    }
    json_out_begin_object(out);
    json_out_kv_str(out, "path", entry->path);
    json_out_kv_u64(out, "objects", entry->n_objects);
    json_out_kv_u64(out, "kept", entry->n_kept);
    if (entry->error != 0) {
        json_out_kv_str(out, "error", strerror(-entry->error));
    }
    json_out_kv_array(out, "messages");
    put_messages(out, entry->errors);
    put_messages(out, entry->duplicates);
    json_out_end(out);
    json_out_end(out);
}

void proc_dump_source(struct json_out *out, struct source_file *source) {
    struct source_file_status status;
    bool is_pending = source_file_is_pending(source);
    source_file_status(source, &status);
    json_out_kv_object(out, "source");
    json_out_kv_str(out, "path", status.path);
    if (status.dir_error != 0) {
        json_out_kv_str(out, "error", strerror(-status.dir_error));
    }
    if (status.state_error != 0) {
        json_out_kv_str(out, "stateDirError", strerror(-status.state_error));
    }
    json_out_kv_bool(out, "pending", is_pending);
    json_out_kv_u64(out, "files", status.n_files);
    json_out_kv_u64(out, "badFiles", status.n_bad_files);
    json_out_kv_u64(out, "objects", status.n_objects);
    json_out_kv_u64(out, "keptObjects", status.n_kept);
    json_out_kv_u64(out, "errors", status.n_errors);
    json_out_kv_u64(out, "warnings", status.n_warnings);
    json_out_kv_u64(out, "loads", status.n_loads);
    json_out_kv_u64(out, "failedLoads", status.n_failed_loads);
    json_out_kv_u64(out, "lastLoadMicros", status.last_load_us);
    json_out_kv_i64(out, "lastLoadAt", status.last_load_at_s);
    json_out_kv_i64(out, "lastGoodAt", status.last_good_at_s);
    json_out_kv_array(out, "filesWithMessages");
    source_file_each(source, put_file, out);
    json_out_end(out);
    json_out_end(out);
}

// ---- objects -----------------------------------------------------------------------------------

static void put_object(struct json_out *out, const struct kobj *obj) {
    struct buf text;
    buf_init(&text, 2048);
    buf_printf(&text, "%s ", obj->kind_name);
    if (obj->meta.ns[0] != '\0') {
        buf_printf(&text, "%s/", obj->meta.ns);
    }
    buf_append_str(&text, obj->meta.name);
    json_out_kv_string(out, "object", buf_slice(&text));
    json_out_kv_str(out, "file", obj->file);
    json_out_kv_u64(out, "line", obj->pos.line);
    buf_fini(&text);
}

static bool put_problem(void *arg, const struct builder_problem *problem) {
    struct json_out *out = arg;
    json_out_begin_object(out);
    put_object(out, problem->obj);
    json_out_kv_str(out, "problem", problem->text);
    json_out_end(out);
    return buf_ok(out->buf);
}

static bool put_waypoint_policy(void *arg, const struct kobj *policy) {
    struct json_out *out = arg;
    json_out_begin_object(out);
    put_object(out, policy);
    json_out_end(out);
    return buf_ok(out->buf);
}

void proc_dump_objects(struct json_out *out, struct mesh_builder *builder) {
    json_out_kv_array(out, "problems");
    builder_each_problem(builder, put_problem, out);
    json_out_end(out);
    json_out_kv_array(out, "waypointPolicies");
    builder_each_waypoint_policy(builder, put_waypoint_policy, out);
    json_out_end(out);
}
