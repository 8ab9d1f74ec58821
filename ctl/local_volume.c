// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_volume.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/local_env.h"
#include "ctl/local_json.h"
#include "ctl/local_store.h"
#include "ctl/local_sys.h"
#include "ctl/local_text.h"

// What a volume holds: path in the volume -> base64 of the content (JSON strings hold no NUL).
// One object of this form is built per volume, and its hash tells whether anything changed.

static void put(json_t *files, const char *path, const void *data, size_t len) {
    char *encoded = text_base64(data, len);
    json_object_set_new(files, path, json_string(encoded));
    free(encoded);
}

static bool is_safe(const char *path) {
    return path[0] != '/' && path[0] != '\0' && strstr(path, "..") == NULL;
}

static void put_map(json_t *files, const json_t *source, const char *part, bool is_encoded,
                    const json_t *items) {
    const json_t *data = json_object_get(source, part);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)data, key, value) {
        const char *path = items == NULL ? key : NULL;
        size_t i;
        json_t *item;
        json_array_foreach((json_t *)items, i, item) {
            path = strcmp(js_str(item, "key", ""), key) == 0 ? js_str(item, "path", key) : path;
        }
        if (path == NULL || !is_safe(path) || !json_is_string(value)) {
            continue;
        }
        if (is_encoded) {
            json_object_set(files, path, value);
        } else {
            put(files, path, json_string_value(value), json_string_length(value));
        }
    }
}

static int add_source(struct lab_pod *pod, const char *kind, const char *name, const json_t *spec,
                      json_t *files) {
    struct lab_object *object = lab_store_find(pod->lab, kind, js_ns(pod->object->doc), name);
    if (object == NULL) {
        if (js_bool(spec, "optional", false)) {
            return 0;
        }
        pod->waiting_reason = "ContainerCreating";
        snprintf(pod->waiting_message, sizeof(pod->waiting_message), "%s \"%s\" not found", kind,
                 name);
        return -EAGAIN;
    }
    bool is_secret = strcmp(kind, "Secret") == 0;
    const json_t *items = js_get(spec, "items");
    put_map(files, object->doc, "data", is_secret, items);
    put_map(files, object->doc, "binaryData", true, items);
    return 0;
}

static void add_downward(struct lab_pod *pod, const json_t *spec, json_t *files) {
    size_t i;
    json_t *item;
    json_array_foreach(js_get(spec, "items"), i, item) {
        const char *path = js_str(item, "path", "");
        char *value = lab_env_field(pod, js_str(item, "fieldRef.fieldPath", ""));
        if (value != NULL && is_safe(path)) {
            put(files, path, value, strlen(value));
        } else {
            lab_note(pod->lab, "downwardAPI item %s: only fieldRef is known", path);
        }
        free(value);
    }
}

// The files of a volume that is made of other objects. 1: it is no such volume.
static int collect(struct lab_pod *pod, const json_t *volume, json_t *files) {
    const json_t *spec;
    if ((spec = js_get(volume, "configMap")) != NULL) {
        return add_source(pod, "ConfigMap", js_str(spec, "name", ""), spec, files);
    }
    if ((spec = js_get(volume, "secret")) != NULL) {
        return add_source(pod, "Secret", js_str(spec, "secretName", ""), spec, files);
    }
    if ((spec = js_get(volume, "downwardAPI")) != NULL) {
        add_downward(pod, spec, files);
        return 0;
    }
    if ((spec = js_get(volume, "projected")) == NULL) {
        return 1;
    }
    size_t i;
    json_t *source;
    int rc = 0;
    json_array_foreach(js_get(spec, "sources"), i, source) {
        const json_t *part;
        if (rc == 0 && (part = js_get(source, "configMap")) != NULL) {
            rc = add_source(pod, "ConfigMap", js_str(part, "name", ""), part, files);
        } else if (rc == 0 && (part = js_get(source, "secret")) != NULL) {
            rc = add_source(pod, "Secret", js_str(part, "name", ""), part, files);
        } else if ((part = js_get(source, "downwardAPI")) != NULL) {
            add_downward(pod, part, files);
        } else {
            lab_note(pod->lab, "projected volumes: only configMap, secret and downwardAPI");
        }
    }
    return rc;
}

static int write_files(const char *dir, const json_t *files, mode_t mode) {
    const char *path;
    json_t *value;
    int rc = sys_mkdir_p(dir, 0755);
    json_object_foreach((json_t *)files, path, value) {
        uint8_t *data = NULL;
        size_t len = 0;
        if (rc < 0 || !text_unbase64(json_string_value(value), &data, &len)) {
            continue;
        }
        char *full = xasprintf("%s/%s", dir, path);
        char *slash = strrchr(full, '/');
        *slash = '\0';
        rc = sys_mkdir_p(full, 0755);
        *slash = '/';
        rc = rc == 0 ? sys_write_file(full, data, len, mode) : rc;
        free(full);
        free(data);
    }
    return rc;
}

// Links for what the user sees: the first part of each path, by way of ..data.
static void link_files(const char *dir, const json_t *files) {
    const char *path;
    json_t *value;
    json_object_foreach((json_t *)files, path, value) {
        char *top = xstrdup(path);
        top[strcspn(top, "/")] = '\0';
        char *link = xasprintf("%s/%s", dir, top);
        char *target = xasprintf("..data/%s", top);
        if (symlink(target, link) < 0 && errno != EEXIST) {
            lab_log("%s: %m", link);
        }
        free(target);
        free(link);
        free(top);
    }
}

// As kubelet: a new directory, then one rename of ..data, so that a reader sees all old or all new.
static int publish(const char *dir, const json_t *files, mode_t mode) {
    uint64_t hash = js_hash(files);
    char name[32], current[64];
    snprintf(name, sizeof(name), "..%016llx", (unsigned long long)hash);
    char *data = xasprintf("%s/..data", dir), *next = xasprintf("%s/..next", dir);
    char *fresh = xasprintf("%s/%s", dir, name);
    ssize_t n = readlink(data, current, sizeof(current) - 1);
    current[n > 0 ? n : 0] = '\0';
    int rc = 0;
    if (strcmp(current, name) != 0) {
        rc = write_files(fresh, files, mode);
        unlink(next);
        if (rc == 0 && (symlink(name, next) < 0 || rename(next, data) < 0)) {
            rc = -errno;
        }
        if (rc == 0) {
            link_files(dir, files);
        }
        if (rc == 0 && current[0] != '\0') {
            char *old = xasprintf("%s/%s", dir, current);
            sys_rm_rf(old);
            free(old);
        }
    }
    free(fresh);
    free(next);
    free(data);
    return rc;
}

static char *volume_dir(const struct lab_pod *pod, const char *name) {
    return xasprintf("%s/volumes/%s", pod->dir, name);
}

static mode_t volume_mode(const json_t *volume) {
    static const char *const kinds[] = {"configMap", "secret", "projected", "downwardAPI"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const json_t *spec = js_get(volume, kinds[i]);
        if (spec != NULL) {
            return (mode_t)js_int(spec, "defaultMode", 0644) & 0777;
        }
    }
    return 0644;
}

static int prepare_volume(struct lab_pod *pod, const json_t *volume) {
    char *dir = volume_dir(pod, js_str(volume, "name", ""));
    json_t *files = json_object();
    int rc = collect(pod, volume, files);
    if (rc == 0) {
        rc = sys_mkdir_p(dir, 0755);
        rc = rc == 0 ? publish(dir, files, volume_mode(volume)) : rc;
    } else if (rc == 1) {
        rc = 0;
        const char *claim = js_str(volume, "persistentVolumeClaim.claimName", NULL);
        if (claim != NULL) {
            free(dir);
            dir = xasprintf("%s/claims/%s.%s", pod->lab->opt.dir, js_ns(pod->object->doc), claim);
        } else if (js_get(volume, "emptyDir") == NULL && js_get(volume, "hostPath") == NULL) {
            lab_note(pod->lab, "volume %s: its type is not known, it is an empty directory",
                     js_str(volume, "name", ""));
        }
        if (js_get(volume, "hostPath") == NULL) {
            rc = sys_mkdir_p(dir, 0777);
            chmod(dir, 0777);
        }
    }
    json_decref(files);
    free(dir);
    return rc;
}

static int write_etc(struct lab_pod *pod, const char *name, struct text *text) {
    char *path = xasprintf("%s/%s", pod->dir, name);
    char *content = text_take(text);
    int rc = sys_write_file(path, content, strlen(content), 0644);
    free(content);
    free(path);
    return rc;
}

static void add_resolver(const struct lab_pod *pod, struct text *out) {
    const struct lab *lab = pod->lab;
    const struct ip *ips = pod->is_host_network ? pod->node->ips : pod->ips;
    char buf[IP_TEXT_MAX];
    for (int f = 0; f < 2; f++) {
        if (ips[f].family != 0) {
            text_add(out, "nameserver %s\n", ip_text(&lab->dns_ips[f], buf));
        }
    }
}

// dnsPolicy ClusterFirst and None, dnsConfig. Default is the same as ClusterFirst: there is no
// resolver outside.
static int write_resolv(struct lab_pod *pod) {
    const json_t *doc = pod->object->doc, *config = js_get(doc, "spec.dnsConfig");
    bool is_none = strcmp(js_str(doc, "spec.dnsPolicy", ""), "None") == 0;
    struct text out = {0}, search = {0};
    if (!is_none) {
        const char *domain = pod->lab->opt.cluster_domain;
        add_resolver(pod, &out);
        text_add(&search, " %s.svc.%s svc.%s %s", js_ns(doc), domain, domain, domain);
    }
    size_t i;
    json_t *item;
    json_array_foreach(js_get(config, "nameservers"), i, item) {
        text_add(&out, "nameserver %s\n", json_string_value(item));
    }
    json_array_foreach(js_get(config, "searches"), i, item) {
        text_add(&search, " %s", json_string_value(item));
    }
    if (search.len > 0) {
        text_add(&out, "search%s\n", search.ptr);
    }
    text_fini(&search);
    text_add(&out, "options ndots:5");
    json_array_foreach(js_get(config, "options"), i, item) {
        const char *value = js_str(item, "value", NULL);
        text_add(&out, " %s%s%s", js_str(item, "name", ""), value != NULL ? ":" : "",
                 value != NULL ? value : "");
    }
    text_add(&out, "\n");
    return write_etc(pod, "resolv.conf", &out);
}

static int write_hosts(struct lab_pod *pod) {
    const json_t *doc = pod->object->doc;
    const char *hostname = js_str(doc, "spec.hostname", js_name(doc));
    const char *subdomain = js_str(doc, "spec.subdomain", NULL);
    const struct ip *ips = pod->is_host_network ? pod->node->ips : pod->ips;
    char buf[IP_TEXT_MAX];
    struct text out = {0};
    text_add(&out, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (int f = 0; f < 2; f++) {
        if (ips[f].family == 0) {
            continue;
        }
        text_add(&out, "%s\t", ip_text(&ips[f], buf));
        if (subdomain != NULL) {
            text_add(&out, "%s.%s.%s.svc.%s\t", hostname, subdomain, js_ns(doc),
                     pod->lab->opt.cluster_domain);
        }
        text_add(&out, "%s\n", hostname);
    }
    size_t i, k;
    json_t *alias, *name;
    json_array_foreach(js_get(doc, "spec.hostAliases"), i, alias) {
        text_add(&out, "%s", js_str(alias, "ip", ""));
        json_array_foreach(js_get(alias, "hostnames"), k, name) {
            text_add(&out, "\t%s", json_string_value(name));
        }
        text_add(&out, "\n");
    }
    int rc = write_etc(pod, "hosts", &out);
    text_add(&out, "%s\n", pod->is_host_network ? pod->node->name : hostname);
    return rc == 0 ? write_etc(pod, "hostname", &out) : rc;
}

int lab_volume_prepare(struct lab_pod *pod) {
    int rc = sys_mkdir_p(pod->dir, 0755);
    size_t i;
    json_t *volume;
    json_array_foreach(js_get(pod->object->doc, "spec.volumes"), i, volume) {
        rc = rc == 0 ? prepare_volume(pod, volume) : rc;
    }
    rc = rc == 0 ? write_resolv(pod) : rc;
    return rc == 0 ? write_hosts(pod) : rc;
}

void lab_volume_refresh(struct lab_pod *pod) {
    size_t i;
    json_t *volume;
    json_array_foreach(js_get(pod->object->doc, "spec.volumes"), i, volume) {
        json_t *files = json_object();
        if (collect(pod, volume, files) == 0) {
            char *dir = volume_dir(pod, js_str(volume, "name", ""));
            if (publish(dir, files, volume_mode(volume)) < 0) {
                lab_log("cannot update volume %s", dir);
            }
            free(dir);
        }
        json_decref(files);
    }
}

static const json_t *find_volume(const struct lab_pod *pod, const char *name) {
    size_t i;
    json_t *volume;
    json_array_foreach(js_get(pod->object->doc, "spec.volumes"), i, volume) {
        if (strcmp(js_str(volume, "name", ""), name) == 0) {
            return volume;
        }
    }
    return NULL;
}

static int add_mount(struct lab_pod *pod, const json_t *mount, struct rootfs *rootfs) {
    const char *name = js_str(mount, "name", ""), *target = js_str(mount, "mountPath", "");
    const json_t *volume = find_volume(pod, name);
    const char *sub = js_str(mount, "subPath", "");
    if (volume == NULL || target[0] != '/' || (sub[0] != '\0' && !is_safe(sub))) {
        pod->waiting_reason = "CreateContainerError";
        snprintf(pod->waiting_message, sizeof(pod->waiting_message), "bad volume mount \"%s\"",
                 name);
        return -EINVAL;
    }
    const char *claim = js_str(volume, "persistentVolumeClaim.claimName", NULL);
    const char *host = js_str(volume, "hostPath.path", NULL);
    char *dir;
    if (host != NULL) {
        dir = xstrdup(host);
    } else if (claim != NULL) {
        dir = xasprintf("%s/claims/%s.%s", pod->lab->opt.dir, js_ns(pod->object->doc), claim);
    } else {
        dir = volume_dir(pod, name);
    }
    char *source = sub[0] != '\0' ? xasprintf("%s/%s", dir, sub) : xstrdup(dir);
    struct stat st;
    if (sub[0] != '\0' && stat(source, &st) < 0 && sys_mkdir_p(source, 0777) < 0) {
        lab_log("cannot make %s", source);
    }
    bool is_file = stat(source, &st) == 0 && !S_ISDIR(st.st_mode);
    rootfs_add(rootfs, source, target, is_file, js_bool(mount, "readOnly", false));
    free(source);
    free(dir);
    return 0;
}

int lab_volume_mounts(struct lab_pod *pod, const json_t *container, struct rootfs *ret_rootfs) {
    struct rootfs rootfs = {.stage_dir = pod->lab->stage_dir};
    static const char *const files[] = {"resolv.conf", "hosts", "hostname"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char *source = xasprintf("%s/%s", pod->dir, files[i]);
        char *target = xasprintf("/etc/%s", files[i]);
        rootfs_add(&rootfs, source, target, true, false);
        free(source);
        free(target);
    }
    int rc = 0;
    size_t i;
    json_t *mount;
    json_array_foreach(js_get(container, "volumeMounts"), i, mount) {
        rc = rc == 0 ? add_mount(pod, mount, &rootfs) : rc;
    }
    if (rc < 0) {
        rootfs_fini(&rootfs);
        return rc;
    }
    *ret_rootfs = rootfs;
    return 0;
}
