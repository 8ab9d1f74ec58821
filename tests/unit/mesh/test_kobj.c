// SPDX-License-Identifier: Apache-2.0
//
// Kubernetes kinds. The pod below is what `kubectl get pod -o yaml` prints, with all that a cluster
// adds: it must pass as it is.
#include "common/mesh/kobj.h"

#include "tests/unit/mesh/config_fixture.h"

static const char pod_yaml[] =
    "apiVersion: v1\n"
    "kind: Pod\n"
    "metadata:\n"
    "  annotations:\n"
    "    ambient.istio.io/redirection: enabled\n"
    "    ztun.io/netns: web-1\n"
    "  creationTimestamp: \"2024-05-01T10:00:00Z\"\n"
    "  finalizers: [example.com/x]\n"
    "  generateName: web-7d4b9c-\n"
    "  labels: {app: web, pod-template-hash: 7d4b9c, version: v1}\n"
    "  managedFields:\n"
    "  - apiVersion: v1\n"
    "    fieldsType: FieldsV1\n"
    "    fieldsV1: {\"f:metadata\": {\"f:labels\": {\".\": {}, \"f:app\": {}}}}\n"
    "    manager: kube-controller-manager\n"
    "    operation: Update\n"
    "    time: \"2024-05-01T10:00:00Z\"\n"
    "  name: web-7d4b9c-x2x4z\n"
    "  namespace: shop\n"
    "  ownerReferences:\n"
    "  - {apiVersion: apps/v1, blockOwnerDeletion: true, controller: true, kind: ReplicaSet, name: "
    "web-7d4b9c, uid: 1a2b}\n"
    "  resourceVersion: \"12345\"\n"
    "  uid: 6f1b\n"
    "spec:\n"
    "  affinity: {nodeAffinity: {}}\n"
    "  containers:\n"
    "  - name: web\n"
    "    image: nginx:1.25\n"
    "    imagePullPolicy: IfNotPresent\n"
    "    command: [/bin/web]\n"
    "    args: [--port, \"8080\"]\n"
    "    env:\n"
    "    - {name: A, value: \"1\"}\n"
    "    - name: POD_IP\n"
    "      valueFrom: {fieldRef: {apiVersion: v1, fieldPath: status.podIP}}\n"
    "    - name: CPU\n"
    "      valueFrom: {resourceFieldRef: {containerName: web, divisor: \"0\", resource: "
    "limits.cpu}}\n"
    "    - name: CM\n"
    "      valueFrom: {configMapKeyRef: {name: cm, key: k, optional: true}}\n"
    "    - name: SEC\n"
    "      valueFrom: {secretKeyRef: {name: s, key: k}}\n"
    "    envFrom:\n"
    "    - {prefix: P_, configMapRef: {name: all}}\n"
    "    lifecycle: {preStop: {exec: {command: [sleep, \"5\"]}}, postStart: {sleep: {seconds: "
    "1}}}\n"
    "    livenessProbe:\n"
    "      failureThreshold: 5\n"
    "      httpGet: {path: /live, port: http, scheme: HTTP, httpHeaders: [{name: X, value: v}]}\n"
    "    readinessProbe: {grpc: {port: 9000, service: \"\"}, periodSeconds: 2}\n"
    "    ports:\n"
    "    - {containerPort: 8080, name: http, protocol: TCP}\n"
    "    - {containerPort: 53, protocol: UDP}\n"
    "    resources: {limits: {cpu: \"2\", memory: 1Gi}, requests: {cpu: 100m}}\n"
    "    securityContext: {runAsUser: 1000, capabilities: {drop: [ALL]}}\n"
    "    terminationMessagePath: /dev/termination-log\n"
    "    terminationMessagePolicy: File\n"
    "    volumeMounts:\n"
    "    - {mountPath: /etc/cfg, name: cfg, readOnly: true}\n"
    "    - {mountPath: /var/run/secrets/kubernetes.io/serviceaccount, name: kube-api-access}\n"
    "  dnsConfig: {nameservers: [10.96.0.10], searches: [a.b], options: [{name: ndots, value: "
    "\"5\"}]}\n"
    "  dnsPolicy: ClusterFirst\n"
    "  enableServiceLinks: true\n"
    "  nodeName: node-1\n"
    "  preemptionPolicy: PreemptLowerPriority\n"
    "  priority: 0\n"
    "  restartPolicy: Always\n"
    "  schedulerName: default-scheduler\n"
    "  securityContext: {}\n"
    "  serviceAccount: web\n"
    "  serviceAccountName: web\n"
    "  terminationGracePeriodSeconds: 30\n"
    "  tolerations: [{effect: NoExecute, key: node.kubernetes.io/not-ready, operator: Exists}]\n"
    "  volumes:\n"
    "  - name: cfg\n"
    "    configMap: {name: cm, defaultMode: 420, items: [{key: k, path: p}]}\n"
    "  - name: kube-api-access\n"
    "    projected:\n"
    "      defaultMode: 420\n"
    "      sources:\n"
    "      - serviceAccountToken: {expirationSeconds: 3607, path: token}\n"
    "      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}\n"
    "      - downwardAPI: {items: [{path: namespace, fieldRef: {apiVersion: v1, fieldPath: "
    "metadata.namespace}}]}\n"
    "  - {name: tmp, emptyDir: {medium: Memory, sizeLimit: 64Mi}}\n"
    "  - {name: claim, persistentVolumeClaim: {claimName: c}}\n"
    "status:\n"
    "  conditions:\n"
    "  - {lastProbeTime: null, lastTransitionTime: \"2024-05-01T10:00:00Z\", status: \"True\", "
    "type: Ready}\n"
    "  containerStatuses: [{name: web, ready: true, restartCount: 0, state: {running: {}}}]\n"
    "  hostIP: 192.168.0.1\n"
    "  hostIPs: [{ip: 192.168.0.1}]\n"
    "  phase: Running\n"
    "  podIP: 10.1.0.5\n"
    "  podIPs: [{ip: 10.1.0.5}, {ip: \"fd00::5\"}]\n"
    "  qosClass: Burstable\n"
    "  startTime: \"2024-05-01T10:00:00Z\"\n";

static void check_pod_meta(const struct kobj *obj) {
    const struct kobj_meta *meta = &obj->meta;
    assert_string_equal(obj->kind_name, "Pod");
    assert_string_equal(obj->group, "");
    assert_string_equal(obj->api_version, "v1");
    assert_string_equal(obj->file, "f.yaml");
    assert_string_equal(meta->name, "web-7d4b9c-x2x4z");
    assert_string_equal(meta->ns, "shop");
    assert_string_equal(kobj_map_get(&meta->labels, "app"), "web");
    assert_string_equal(kobj_map_get(&meta->annotations, "ztun.io/netns"), "web-1");
    assert_int_equal(meta->n_owners, 1);
    assert_true(meta->owners[0].is_controller);
    assert_string_equal(meta->owners[0].kind, "ReplicaSet");
    assert_string_equal(meta->deletion_timestamp, "");
}

static void check_container(const struct kobj_container *c) {
    assert_int_equal(c->n_args, 2);
    assert_string_equal(c->args[1], "8080");
    assert_int_equal(c->n_env, 5);
    assert_string_equal(c->env[0].value, "1");
    assert_string_equal(c->env[1].field_path, "status.podIP");
    assert_string_equal(c->env[2].resource, "limits.cpu");
    assert_true(c->env[3].config_map->is_optional);
    assert_string_equal(c->env[4].secret->key, "k");
    assert_string_equal(c->env_from[0].config_map, "all");
    assert_int_equal(c->pre_stop->type, HANDLER_EXEC);
    assert_int_equal(c->pre_stop->n_command, 2);
    assert_int_equal(c->post_start->type, HANDLER_SLEEP);
    assert_int_equal(c->post_start->sleep_s, 1);
    assert_int_equal(c->liveness->handler.type, HANDLER_HTTP);
    assert_string_equal(c->liveness->handler.port.text, "http");
    assert_string_equal(kobj_map_get(&c->liveness->handler.headers, "X"), "v");
    assert_int_equal(c->liveness->failure_threshold, 5);
    assert_int_equal(c->liveness->period_s, 10);
    assert_int_equal(c->readiness->handler.type, HANDLER_GRPC);
    assert_int_equal(c->readiness->handler.port.num, 9000);
    assert_int_equal(c->readiness->timeout_s, 1);
    assert_null(c->startup);
    assert_int_equal(c->n_ports, 2);
    assert_int_equal(c->ports[1].protocol, PROTOCOL_UDP);
    assert_int_equal(c->limits[0].milli, 2000);
    assert_int_equal(c->run_as_user, 1000);
    assert_int_equal(c->run_as_group, -1);
    assert_true(c->volume_mounts[0].is_read_only);
}

static void check_volumes(const struct kobj_pod_spec *spec) {
    assert_int_equal(spec->n_volumes, 4);
    const struct kobj_volume *v = spec->volumes;
    assert_int_equal(v[0].type, VOLUME_CONFIG_MAP);
    assert_string_equal(v[0].type_name, "configMap");
    assert_int_equal(v[0].default_mode, 0644);
    assert_int_equal(v[0].n_sources, 1);
    assert_int_equal(v[0].sources[0].type, PROJECT_CONFIG_MAP);
    assert_string_equal(v[0].sources[0].items[0].path, "p");
    assert_int_equal(v[1].type, VOLUME_PROJECTED);
    assert_int_equal(v[1].n_sources, 3);
    assert_int_equal(v[1].sources[0].type, PROJECT_TOKEN);
    assert_string_equal(v[1].sources[1].name, "kube-root-ca.crt");
    assert_string_equal(v[1].sources[2].files[0].field_path, "metadata.namespace");
    assert_int_equal(v[2].type, VOLUME_EMPTY_DIR);
    assert_string_equal(v[2].size_limit, "64Mi");
    assert_int_equal(v[3].type, VOLUME_OTHER);
    assert_string_equal(v[3].type_name, "persistentVolumeClaim");
}

static void test_pod(void **state) {
    struct config_fixture f;
    fixture_init(&f);
    fixture_read(&f, pod_yaml, CONFIG_YAML);
    assert_messages(&f.errors, "");
    assert_int_equal(f.n_objs, 1);
    const struct kobj *obj = f.objs[0];
    const struct kobj_pod *pod = obj->pod;
    check_pod_meta(obj);
    check_container(&pod->spec.containers[0]);
    check_volumes(&pod->spec);
    assert_string_equal(pod->spec.node_name, "node-1");
    assert_string_equal(pod->spec.service_account, "web");
    assert_int_equal(pod->spec.grace_period_s, 30);
    assert_int_equal(pod->spec.enable_service_links, TRI_TRUE);
    assert_string_equal(kobj_map_get(&pod->spec.dns_config->options, "ndots"), "5");
    assert_int_equal(pod->status.phase, PHASE_RUNNING);
    assert_int_equal(pod->status.n_pod_ips, 2);
    assert_string_equal(pod->status.pod_ips[1], "fd00::5");
    assert_true(kobj_pod_is_ready(obj));
    assert_int_equal(kobj_pos_of(obj, "spec.containers[0].ports[1].containerPort").line, 51);
    assert_int_equal(kobj_pos_of(obj, "metadata.labels[app]").line, 10);
    fixture_fini(&f);
}

// A lean object has what the proxy needs, and a fraction of the size.
static void test_pod_lean(void **state) {
    struct config_fixture f;
    fixture_init(&f);
    f.flags = KOBJ_LEAN;
    fixture_read(&f, pod_yaml, CONFIG_YAML);
    assert_messages(&f.errors, "");
    const struct kobj_pod *pod = f.objs[0]->pod;
    const struct kobj_container *c = &pod->spec.containers[0];
    check_pod_meta(f.objs[0]);
    assert_int_equal(c->n_ports, 2);
    assert_int_equal(c->n_env, 0);
    assert_null(c->env);
    assert_null(c->liveness);
    assert_string_equal(c->image, "");
    assert_int_equal(pod->spec.n_volumes, 0);
    assert_string_equal(pod->status.pod_ips[0], "10.1.0.5");
    assert_true(kobj_pod_is_ready(f.objs[0]));
    assert_int_equal(kobj_pos_of(f.objs[0], "spec.nodeName").line, 1); // no tree
    fixture_fini(&f);
}

// What is left out of a lean object is checked all the same.
static void test_pod_lean_items(void **state) {
    static const char yaml[] =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n"
        "  - {name: a, image: i}\n  - {name: b, ports: [{name: http, containerPort: 80}]}\n"
        "  - {name: c, ports: []}\n  initContainers: [{name: d}]\nstatus:\n  podIP: 10.0.0.1\n"
        "  conditions:\n  - {type: Initialized, status: \"True\"}\n"
        "  - {type: Ready, status: \"True\"}\n";
    for (unsigned flags = 0; flags <= KOBJ_LEAN; flags += KOBJ_LEAN) {
        bool is_lean = flags != 0;
        struct config_fixture f;
        fixture_init(&f);
        f.flags = flags;
        fixture_read(&f, yaml, CONFIG_YAML);
        assert_messages(&f.errors, "");
        const struct kobj_pod *pod = f.objs[0]->pod;
        assert_int_equal(pod->spec.n_containers, is_lean ? 1 : 3);
        assert_int_equal(pod->spec.n_init_containers, is_lean ? 0 : 1);
        const struct kobj_container *b = &pod->spec.containers[is_lean ? 0 : 1];
        assert_int_equal(b->n_ports, 1);
        assert_string_equal(b->ports[0].name, "http");
        assert_int_equal(pod->status.n_conditions, is_lean ? 1 : 2);
        assert_true(kobj_pod_is_ready(f.objs[0]));
        fixture_fini(&f);
    }
    struct config_fixture f;
    fixture_init(&f);
    f.flags = KOBJ_LEAN;
    fixture_read(&f,
                 "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n"
                 "  - {name: B_ad}\n",
                 CONFIG_YAML);
    assert_int_equal(f.errors.n_errors, 1);
    assert_int_equal(f.n_objs, 0);
    fixture_fini(&f);
}

static uint64_t hash_of(const char *yaml) {
    struct config_fixture f;
    fixture_init(&f);
    fixture_read(&f, yaml, CONFIG_YAML);
    assert_int_equal(f.n_objs, 1);
    uint64_t hash = f.objs[0]->hash;
    fixture_fini(&f);
    return hash;
}

static void test_hash(void **state) {
#define NS "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n"
    uint64_t hash = hash_of(NS);
    assert_true(hash == hash_of(NS "  resourceVersion: '5'\n"));
    assert_true(hash == hash_of(NS "  managedFields: [{manager: x}]\n"));
    assert_true(hash == hash_of("# c\nkind: Namespace\nmetadata: {name: a}\napiVersion: v1\n"));
    assert_true(hash != hash_of(NS "  labels: {a: b}\n"));
    assert_true(hash != hash_of(NS "spec: {finalizers: [x]}\n"));
}

static void test_service(void **state) {
    struct config_fixture f;
    fixture_init(&f);
    fixture_read(&f,
                 "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
                 "spec:\n"
                 "  allocateLoadBalancerNodePorts: true\n"
                 "  clusterIP: 10.96.0.1\n"
                 "  externalIPs: [1.2.3.4]\n"
                 "  externalTrafficPolicy: Local\n"
                 "  internalTrafficPolicy: Cluster\n"
                 "  ports:\n"
                 "  - {name: http, port: 80, targetPort: web, nodePort: 30080, appProtocol: http}\n"
                 "  - {name: dns, port: 53, protocol: UDP}\n"
                 "  publishNotReadyAddresses: true\n"
                 "  selector: {app: web}\n"
                 "  sessionAffinity: ClientIP\n"
                 "  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}\n"
                 "  trafficDistribution: PreferClose\n"
                 "  type: LoadBalancer\n"
                 "status: {loadBalancer: {ingress: [{ip: 5.6.7.8, ipMode: VIP}]}}\n",
                 CONFIG_YAML);
    assert_messages(&f.errors, "");
    const struct kobj_service *s = f.objs[0]->service;
    assert_string_equal(f.objs[0]->meta.ns, "default");
    assert_int_equal(s->type, SERVICE_LOAD_BALANCER);
    assert_int_equal(s->n_cluster_ips, 1);
    assert_string_equal(s->cluster_ips[0], "10.96.0.1");
    assert_int_equal(s->n_ports, 2);
    assert_string_equal(s->ports[0].target_port.text, "web");
    assert_int_equal(s->ports[0].node_port, 30080);
    assert_int_equal(s->ports[0].pos.line, 11);
    assert_int_equal(s->ports[1].protocol, PROTOCOL_UDP);
    assert_int_equal(s->ports[1].target_port.num, 0);
    assert_true(s->publish_not_ready);
    assert_int_equal(s->external_traffic_policy, TRAFFIC_LOCAL);
    assert_int_equal(s->session_affinity_timeout_s, 60);
    assert_string_equal(s->traffic_distribution, "PreferClose");
    assert_string_equal(s->ingress[0].ip, "5.6.7.8");
    fixture_fini(&f);
}

static void test_endpoints(void **state) {
    struct config_fixture f;
    fixture_init(&f);
    fixture_read(
        &f,
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        "metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\n"
        "endpoints:\n"
        "- addresses: [10.1.0.5]\n"
        "  conditions: {ready: true, serving: true, terminating: false}\n"
        "  hints: {forZones: [{name: a}]}\n"
        "  nodeName: node-1\n"
        "  targetRef: {kind: Pod, name: p, namespace: default, uid: u}\n"
        "  zone: a\n"
        "- {addresses: [10.1.0.6], conditions: {}}\n"
        "ports: [{name: \"\", port: 8080, protocol: TCP}]\n"
        "---\n"
        "apiVersion: v1\nkind: Endpoints\nmetadata: {name: web}\n"
        "subsets:\n"
        "- addresses: [{ip: 10.1.0.5, nodeName: node-1, targetRef: {kind: Pod, name: p}}]\n"
        "  notReadyAddresses: [{ip: 10.1.0.7}]\n"
        "  ports: [{port: 8080}]\n",
        CONFIG_YAML);
    assert_messages(&f.errors, "");
    const struct kobj_endpoint_slice *slice = f.objs[0]->endpoint_slice;
    assert_int_equal(slice->n_endpoints, 2);
    assert_int_equal(slice->endpoints[0].ready, TRI_TRUE);
    assert_int_equal(slice->endpoints[0].terminating, TRI_FALSE);
    assert_string_equal(slice->endpoints[0].target->name, "p");
    assert_int_equal(slice->endpoints[1].ready, TRI_UNSET);
    assert_null(slice->endpoints[1].target);
    assert_int_equal(slice->ports[0].port, 8080);
    const struct kobj_endpoints *endpoints = f.objs[1]->endpoints;
    assert_int_equal(endpoints->n_subsets, 1);
    assert_string_equal(endpoints->subsets[0].not_ready[0].ip, "10.1.0.7");
    fixture_fini(&f);
}

static void test_sets(void **state) {
    struct config_fixture f;
    fixture_init(&f);
    fixture_read(&f,
                 "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n"
                 "spec:\n"
                 "  progressDeadlineSeconds: 600\n"
                 "  selector: {matchExpressions: [{key: app, operator: In, values: [web]}]}\n"
                 "  strategy: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 1}, type: "
                 "RollingUpdate}\n"
                 "  template:\n"
                 "    metadata: {creationTimestamp: null, labels: {app: web}}\n"
                 "    spec: {containers: [{name: web, image: i}]}\n"
                 "status: {readyReplicas: 1}\n"
                 "---\n"
                 "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\n"
                 "spec:\n"
                 "  replicas: 3\n"
                 "  serviceName: db\n"
                 "  selector: {matchLabels: {app: db}}\n"
                 "  template:\n"
                 "    metadata: {labels: {app: db}}\n"
                 "    spec: {containers: [{name: db, image: i, volumeMounts: [{name: data, "
                 "mountPath: /d}]}]}\n"
                 "  volumeClaimTemplates: [{metadata: {name: data}}]\n",
                 CONFIG_YAML);
    assert_messages(&f.errors, "");
    const struct kobj_workload_set *set = f.objs[0]->workload_set;
    assert_int_equal(set->replicas, 1);
    assert_string_equal(set->max_surge.text, "25%");
    assert_int_equal(set->max_unavailable.num, 1);
    assert_true(kobj_label_selector_matches(set->selector, &set->tmpl.meta.labels));
    assert_string_equal(set->tmpl.spec.containers[0].name, "web");
    assert_int_equal(f.objs[1]->workload_set->replicas, 3);
    assert_string_equal(f.objs[1]->workload_set->service_name, "db");
    fixture_fini(&f);
}

static void test_data(void **state) {
    struct config_fixture f;
    fixture_init(&f);
    fixture_read(&f,
                 "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
                 "data: {a: \"1\", b: |-\n    two}\n"
                 "---\n"
                 "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: d}\n"
                 "data:\n  a: |\n    two\nbinaryData: {x: AAE=}\nimmutable: true\n"
                 "---\n"
                 "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: Opaque\n"
                 "data: {a: c2VjcmV0}\nstringData: {b: plain}\n",
                 CONFIG_YAML);
    assert_int_equal(f.n_objs, 2);
    assert_int_equal(f.errors.n, 1); // the first: block scalars end flow maps
    const struct kobj_config_map *map = f.objs[0]->config_map;
    assert_string_equal(kobj_map_get(&map->data, "a"), "two\n");
    assert_int_equal(map->binary[0].value.len, 2);
    const struct kobj_secret *secret = f.objs[1]->secret;
    assert_int_equal(secret->n_data, 2);
    assert_memory_equal(secret->data[0].value.ptr, "secret", 6);
    assert_memory_equal(secret->data[1].value.ptr, "plain", 5);
    fixture_fini(&f);
}

static void test_node(void **state) {
    struct config_fixture f;
    fixture_init(&f);
    fixture_read(&f,
                 "apiVersion: v1\nkind: Node\n"
                 "metadata: {name: n1, labels: {topology.kubernetes.io/zone: z}}\n"
                 "spec: {podCIDR: 10.1.0.0/24, providerID: x, taints: [{key: a}]}\n"
                 "status:\n"
                 "  addresses: [{type: InternalIP, address: 192.168.0.1}]\n"
                 "  allocatable: {cpu: \"4\"}\n"
                 "  conditions: [{type: Ready, status: \"True\", lastHeartbeatTime: null}]\n"
                 "  nodeInfo: {kernelVersion: \"6.1\"}\n",
                 CONFIG_YAML);
    assert_messages(&f.errors, "");
    const struct kobj_node *node = f.objs[0]->node;
    assert_string_equal(f.objs[0]->meta.ns, "");
    assert_int_equal(node->n_pod_cidrs, 1);
    assert_string_equal(node->pod_cidrs[0], "10.1.0.0/24");
    assert_string_equal(node->addresses[0].address, "192.168.0.1");
    fixture_fini(&f);
}

// What is wrong, and how it is said.
static void test_errors(void **state) {
    static const struct {
        const char *yaml, *messages;
    } rows[] = {
        {"{apiVersion: v1}", "1:1: kind: is required\n"},
        {"{kind: Nosuch}", "1:1: Nosuch: apiVersion: is required\n"},
        // The rest is checked as if it were there.
        {"{kind: Pod, metadata: {nam: p}, spec: {}}",
         "1:1: Pod: apiVersion: is required: v1\n"
         "1:24: Pod: metadata.nam: unknown field (did you mean `name`?)\n"
         "1:23: Pod: metadata.name: is required\n"
         "1:39: Pod: spec.containers: is required\n"},
        {"{apiVersion: v1, kind: Namespace}", "1:1: Namespace: metadata.name: is required\n"},
        {"{apiVersion: v2, kind: Namespace, metadata: {name: a}}",
         "1:14: Namespace a: apiVersion: `v2` is not a version of Namespace, which has v1\n"},
        {"{apiVersion: v1, kind: Service, metadata: {name: a.b}, spec: {ports: [{port: 1}]}}",
         "1:50: Service default/a.b: metadata.name: `a.b` is not a valid name: lower case letters, "
         "digits and `-`, at most 63, a letter or digit at both ends\n"},
        {"{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: ClusterIp}}",
         "1:67: Service default/a: spec.type: `ClusterIp` is none of ClusterIP, NodePort, "
         "LoadBalancer, ExternalName (did you mean `ClusterIP`?)\n"
         "1:60: Service default/a: spec.ports: is required\n"},
        {"{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 1, name: x}, "
         "{port: 1, name: x}]}}",
         "1:89: Service default/a: spec.ports[1]: the name `x` is used twice\n"},
        {"{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c}, {name: "
         "c}]}}",
         "1:81: Pod default/a: spec.containers[1].name: `c` is used twice\n"},
        {"{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, env: "
         "[{name: X, value: v, valueFrom: {fieldRef: {fieldPath: p}}}]}]}}",
         "1:117: Pod default/a: spec.containers[0].env[0].valueFrom: excludes `value`: only one of "
         "them may be set\n"},
        {"{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, "
         "readinessProbe: {periodSeconds: 1}}]}}",
         "1:96: Pod default/a: spec.containers[0].readinessProbe: needs a handler: exec, httpGet, "
         "tcpSocket, grpc or sleep\n"},
        {"{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, "
         "readinessProbe: {exec: {}, tcpSocket: {port: 1}}}]}}",
         "1:118: Pod default/a: spec.containers[0].readinessProbe.tcpSocket: excludes `exec`: only "
         "one of them may be set\n"},
        {"{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: "
         "IPv6, endpoints: [{addresses: [10.0.0.1]}]}",
         "1:121: EndpointSlice default/a: endpoints[0].addresses[0]: `10.0.0.1` is not an IPv6 "
         "address\n"},
        {"{apiVersion: v1, kind: Node, metadata: {name: a, lables: {}}}",
         "1:50: Node a: metadata.lables: unknown field (did you mean `labels`?)\n"},
        {"{apiVersion: v1, kind: Sevice, metadata: {name: a}}",
         "1:24: warning: Sevice a: kind: no kind `Sevice` is known in v1; it is ignored (did you "
         "mean `Service`?)\n"},
        {"{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: a}}",
         "1:44: warning: Service a: kind: no kind `Service` is known in serving.knative.dev/v1; it "
         "is ignored\n"},
        {"{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: a}}",
         "1:44: warning: Gateway a: is not read: ingress is a later step\n"},
        {"{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: a}}",
         "1:44: warning: Sidecar a: is not read: scoping is a later step\n"},
        {"{apiVersion: gateway.networking.k8s.io/v1, kind: TLSRoute, metadata: {name: a}}",
         "1:50: warning: TLSRoute a: belongs to the waypoint, which does not read this kind\n"},
        {"{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: a}}", ""},
        {"{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: a}}", ""},
        {"{apiVersion: install.istio.io/v1alpha1, kind: IstioOperator}", ""},
        {"{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization, metadata: ~}", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config_fixture f;
        fixture_init(&f);
        fixture_read(&f, rows[i].yaml, CONFIG_YAML);
        assert_messages(&f.errors, rows[i].messages);
        assert_int_equal(f.n_objs, f.errors.n_errors == 0);
        fixture_fini(&f);
    }
}

static void test_kinds(void **state) {
    assert_string_equal(kobj_kind_text(KOBJ_SERVICE_ENTRY), "ServiceEntry");
    assert_string_equal(kobj_kind_text(KOBJ_UNKNOWN), "");
    assert_false(kobj_is_namespaced(KOBJ_NODE));
    for (int kind = KOBJ_NAMESPACE; kind < KOBJ_N_KINDS; kind++) {
        assert_string_not_equal(kobj_kind_text((enum kobj_kind)kind), "");
    }
}

static void test_refs(void **state) {
    struct config_fixture f;
    fixture_init(&f);
    fixture_read(&f, "{apiVersion: v1, kind: Namespace, metadata: {name: a}}", CONFIG_YAML);
    struct kobj *obj = kobj_ref(f.objs[0]);
    fixture_fini(&f);
    assert_string_equal(obj->meta.name, "a");
    assert_null(obj->spec);
    kobj_unref(obj);
    kobj_unref(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pod),
        cmocka_unit_test(test_pod_lean),
        cmocka_unit_test(test_pod_lean_items),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_service),
        cmocka_unit_test(test_endpoints),
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_node),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_refs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
