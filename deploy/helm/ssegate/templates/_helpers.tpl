{{- define "ssegate.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ssegate.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ssegate.labels" -}}
{{ include "ssegate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* gateway.yaml: what the chart decides, and `config` of the values. */}}
{{- define "ssegate.config" -}}
{{- range list "listeners" "drain" "drain_delay" -}}
{{- if hasKey $.Values.config . -}}
{{- fail (printf "config.%s: the chart writes this key itself" .) -}}
{{- end -}}
{{- end -}}
{{- $admin := .Values.config.admin | default dict -}}
{{- range keys $admin -}}
{{- if ne . "auth" -}}
{{- fail (printf "config.admin.%s: the chart writes this key itself; only config.admin.auth is yours" .) -}}
{{- end -}}
{{- end -}}
listeners:
  - address: "{{ .Values.listenAddress }}:8080"
  {{- if .Values.tls.secret }}
  - address: "{{ .Values.listenAddress }}:8443"
    tls:
      certificate: /etc/ssegate/tls/tls.crt
      key: /etc/ssegate/tls/tls.key
  {{- end }}
admin:
  address: "{{ .Values.listenAddress }}:9464"
  {{- with $admin.auth }}
  auth:
    {{- toYaml . | nindent 4 }}
  {{- end }}
drain: {{ .Values.shutdown.drainSeconds }}s
{{- with .Values.trustedProxies }}
trusted_proxies:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{ toYaml (omit .Values.config "admin") }}
{{- end -}}
