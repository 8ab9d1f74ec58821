{{- define "ztun.name" -}}
{{ .Values.resourceName | default "ztunnel" }}
{{- end }}

{{- define "ztun.image" -}}
{{- if contains "/" .Values.image -}}
{{ .Values.image }}
{{- else -}}
{{ with .Values.hub }}{{ . | trimSuffix "/" }}/{{ end }}{{ .Values.image }}:{{ .Values.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "ztun.istiod" -}}
istiod{{ with .Values.revision }}-{{ . }}{{ end }}.{{ .Values.istioNamespace }}.svc:15012
{{- end }}

{{- define "ztun.labels" -}}
app.kubernetes.io/name: ztunnel
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: istio
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* metadata of every object but the pods */ -}}
{{- define "ztun.metadata" -}}
name: {{ include "ztun.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "ztun.labels" . | nindent 2 }}
  {{- with .Values.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := deepCopy .Values.annotations }}
{{- with .Values.revision }}
{{- $_ := set $annotations "istio.io/rev" . }}
{{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The environment: what the user says counts before what the chart says. */ -}}
{{- define "ztun.env" -}}
{{- $istiod := include "ztun.istiod" . }}
{{- $texts := dict
    "CA_ADDRESS" (.Values.caAddress | default $istiod)
    "XDS_ADDRESS" (.Values.xdsAddress | default $istiod)
    "RUST_LOG" .Values.logLevel
    "LOG_FORMAT" (ternary "json" "plain" .Values.logAsJson)
    "ISTIO_META_CLUSTER_ID" (.Values.multiCluster.clusterName | default "Kubernetes")
    "NETWORK" .Values.network
    "CRL_PATH" (ternary "/var/run/secrets/istio/crl/ca-crl.pem" "" .Values.peerCaCrl.enabled)
    "INPOD_ENABLED" "true"
    "TERMINATION_GRACE_PERIOD_SECONDS" (int .Values.terminationGracePeriodSeconds) }}
{{- $fields := dict
    "POD_NAME" "metadata.name"
    "POD_NAMESPACE" "metadata.namespace"
    "NODE_NAME" "spec.nodeName"
    "INSTANCE_IP" "status.podIP"
    "SERVICE_ACCOUNT" "spec.serviceAccountName" }}
{{- $given := mergeOverwrite (dict) .Values.meshConfig.defaultConfig.proxyMetadata .Values.env }}
{{- range $name, $value := $texts }}
{{- if and (not (hasKey $given $name)) (ne (toString $value) "") }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- range $name, $path := $fields }}
{{- if not (hasKey $given $name) }}
- name: {{ $name }}
  valueFrom:
    fieldRef:
      fieldPath: {{ $path }}
{{- end }}
{{- end }}
{{- /* How many workers there are. */}}
{{- $cpu := dict "ZTUNNEL_CPU_LIMIT" "limits.cpu" }}
{{- range $part := list "limits" "requests" }}
{{- if hasKey (get $.Values.resources $part | default dict) "cpu" }}
{{- $_ := set $cpu (printf "ZTUNNEL_RESOURCE_CPU_%s" ($part | upper | trimSuffix "S")) (printf "%s.cpu" $part) }}
{{- end }}
{{- end }}
{{- range $name, $resource := $cpu }}
{{- if not (hasKey $given $name) }}
- name: {{ $name }}
  valueFrom:
    resourceFieldRef:
      resource: {{ $resource }}
      divisor: "1"
{{- end }}
{{- end }}
{{- range $name, $value := $given }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "ztun.seccompProfile" -}}
{{- if .Values.seccompProfile -}}
{{ toYaml .Values.seccompProfile }}
{{- else if .Values.seccompInstall.enabled -}}
type: Localhost
localhostProfile: ztun.json
{{- end }}
{{- end }}
