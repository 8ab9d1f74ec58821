{{- define "waypoint.name" -}}
{{ .Values.name | default .Release.Name }}
{{- end }}

{{- define "waypoint.image" -}}
{{- if contains "/" .Values.image -}}
{{ .Values.image }}
{{- else -}}
{{ with .Values.hub }}{{ . | trimSuffix "/" }}/{{ end }}{{ .Values.image }}:{{ .Values.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "waypoint.istiod" -}}
istiod{{ with .Values.revision }}-{{ . }}{{ end }}.{{ .Values.istioNamespace }}.svc:15012
{{- end }}

{{- define "waypoint.meshConfig" -}}
istio{{ with .Values.revision }}{{ if ne . "default" }}-{{ . }}{{ end }}{{ end }}
{{- end }}

{{- define "waypoint.hostname" -}}
{{ include "waypoint.name" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{- define "waypoint.selector" -}}
gateway.networking.k8s.io/gateway-name: {{ include "waypoint.name" . }}
{{- end }}

{{- define "waypoint.labels" -}}
app.kubernetes.io/name: waypoint
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: istio
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* metadata of an object in the namespace */ -}}
{{- define "waypoint.metadata" -}}
name: {{ include "waypoint.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "waypoint.labels" . | nindent 2 }}
  {{- include "waypoint.selector" . | nindent 2 }}
  gateway.networking.k8s.io/gateway-class-name: {{ .Values.gateway.className }}
  {{- with .Values.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* the name of an object of the cluster */ -}}
{{- define "waypoint.clusterName" -}}
ztun-waypoint-{{ .Release.Namespace }}-{{ include "waypoint.name" . }}
{{- end }}

{{- define "waypoint.clusterMetadata" -}}
name: {{ include "waypoint.clusterName" . }}
labels:
  {{- include "waypoint.labels" . | nindent 2 }}
  {{- with .Values.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The environment: what the user says counts before what the chart says. */ -}}
{{- define "waypoint.env" -}}
{{- if and .Values.autoBinding.enabled (not .Values.status.enabled) }}
{{- fail "autoBinding.enabled needs status.enabled: one process does both" }}
{{- end }}
{{- if ge (int .Values.preStopSeconds) (int .Values.terminationGracePeriodSeconds) }}
{{- fail (printf "preStopSeconds (%d) has to be below terminationGracePeriodSeconds (%d)" (int .Values.preStopSeconds) (int .Values.terminationGracePeriodSeconds)) }}
{{- end }}
{{- $istiod := include "waypoint.istiod" . }}
{{- $texts := dict
    "CA_ADDRESS" (.Values.caAddress | default $istiod)
    "XDS_ADDRESS" (.Values.xdsAddress | default $istiod)
    "GATEWAY_NAME" (include "waypoint.name" .)
    "RUST_LOG" .Values.logLevel
    "LOG_FORMAT" (ternary "json" "plain" .Values.logAsJson)
    "CLUSTER_DOMAIN" .Values.clusterDomain
    "CLUSTER_ID" (.Values.multiCluster.clusterName | default "Kubernetes")
    "NETWORK" .Values.network
    "TERMINATION_GRACE_PERIOD_SECONDS" (sub (int .Values.terminationGracePeriodSeconds) (int .Values.preStopSeconds)) }}
{{- $fields := dict
    "POD_NAME" "metadata.name"
    "POD_NAMESPACE" "metadata.namespace"
    "NODE_NAME" "spec.nodeName"
    "INSTANCE_IP" "status.podIP"
    "SERVICE_ACCOUNT" "spec.serviceAccountName" }}
{{- range $name, $value := $texts }}
{{- if and (not (hasKey $.Values.env $name)) (ne (toString $value) "") }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- range $name, $path := $fields }}
{{- if not (hasKey $.Values.env $name) }}
- name: {{ $name }}
  valueFrom:
    fieldRef:
      fieldPath: {{ $path }}
{{- end }}
{{- end }}
{{- if and (hasKey (.Values.resources.limits | default dict) "cpu") (not (hasKey .Values.env "WORKER_THREADS")) }}
- name: WORKER_THREADS
  valueFrom:
    resourceFieldRef:
      resource: limits.cpu
      divisor: "1"
{{- end }}
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "waypoint.subjects" -}}
- kind: ServiceAccount
  name: {{ include "waypoint.name" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- /* RBAC of the kinds that say what is done with requests */ -}}
{{- define "waypoint.ruleKinds" -}}
- apiGroups: [networking.istio.io]
  resources: [virtualservices]
  verbs: [get, list, watch]
- apiGroups: [security.istio.io]
  resources: [authorizationpolicies, requestauthentications]
  verbs: [get, list, watch]
- apiGroups: [telemetry.istio.io]
  resources: [telemetries]
  verbs: [get, list, watch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [grpcroutes, httproutes]
  verbs: [get, list, watch]
{{- if .Values.status.enabled }}
- apiGroups: [gateway.networking.k8s.io]
  resources: [grpcroutes/status, httproutes/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
{{- end }}

{{- define "waypoint.ownRules" -}}
{{- if .Values.status.enabled }}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [ztun-waypoint-{{ include "waypoint.name" . }}]
  verbs: [get, update]
{{- end }}
{{- if and .Values.status.enabled (eq .Values.gateway.className "ztun-waypoint") }}
- apiGroups: [gateway.networking.k8s.io]
  resources: [gateways/status]
  resourceNames: [{{ include "waypoint.name" . }}]
  verbs: [patch]
{{- end }}
{{- if .Values.autoBinding.enabled }}
- apiGroups: [""]
  resources: [services]
  verbs: [patch]
- apiGroups: [networking.istio.io]
  resources: [serviceentries]
  verbs: [patch]
{{- end }}
{{- with .Values.rbac.secretNames }}
- apiGroups: [""]
  resources: [secrets]
  resourceNames:
    {{- toYaml . | nindent 4 }}
  verbs: [get, list, watch]
{{- end }}
{{- end }}
