{{/* Labels of every object of the chart. */}}
{{- define "duchenne.labels" -}}
app.kubernetes.io/name: duchenne
app.kubernetes.io/part-of: duchenne
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The namespace of sweeps. */}}
{{- define "duchenne.namespace" -}}
{{ .Values.namespace.name }}
{{- end }}

{{/* Pods of a sweep, whichever they are. */}}
{{- define "duchenne.sweepPods" -}}
app.kubernetes.io/part-of: duchenne
app.kubernetes.io/component: sweep
{{- end }}

{{/* Heads of sweeps. */}}
{{- define "duchenne.headPods" -}}
app.kubernetes.io/part-of: duchenne
ray.io/node-type: head
{{- end }}

{{/* The server's pods. */}}
{{- define "duchenne.serverPods" -}}
app.kubernetes.io/part-of: duchenne
app.kubernetes.io/component: server
{{- end }}

{{/* Egress to the cluster's DNS. */}}
{{- define "duchenne.dns" -}}
- to:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: kube-system}
      podSelector:
        matchLabels: {k8s-app: kube-dns}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{/* Egress to the records. */}}
{{- define "duchenne.database" -}}
- to:
    {{- range .Values.network.databaseCidrs }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  ports:
    - {protocol: TCP, port: {{ .Values.network.databasePort }}}
{{- end }}
