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

{{/* The pod that migrates the records: not the server's, which the Service would send requests to. */}}
{{- define "duchenne.migrationPods" -}}
app.kubernetes.io/part-of: duchenne
app.kubernetes.io/component: migration
{{- end }}

{{/* The pod of the trial database. */}}
{{- define "duchenne.databasePods" -}}
app.kubernetes.io/part-of: duchenne
app.kubernetes.io/component: database
{{- end }}

{{/* Security of every pod: no root. */}}
{{- define "duchenne.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Security of every container: no privilege, nothing to write to but volumes. */}}
{{- define "duchenne.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Where the records are, for whoever reads them: by reference. */}}
{{- define "duchenne.recordsVariables" -}}
- {name: HOME, value: /tmp}
- {name: DUCHENNE_HOME, value: /var/lib/duchenne}
- name: DUCHENNE_RECORDS_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.server.recordsSecret }}, key: url}}
- name: PGPASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.server.recordsSecret }}, key: password, optional: true}}
{{- end }}

{{/* The server's image. */}}
{{- define "duchenne.serverImage" -}}
{{ required "server.image: name the image of the server, by digest" .Values.server.image | quote }}
{{- end }}

{{/* Egress to storage over TLS, but not to the node's metadata service: it hands out the node's credentials. */}}
{{- define "duchenne.storage" -}}
- to:
    - ipBlock:
        cidr: {{ .Values.network.storageCidr | quote }}
        {{- if eq .Values.network.storageCidr "0.0.0.0/0" }}
        except: [169.254.0.0/16]
        {{- end }}
  ports:
    - {protocol: TCP, port: 443}
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
    {{- if .Values.postgresql.enabled }}
    - podSelector:
        matchLabels:
          {{- include "duchenne.databasePods" . | nindent 10 }}
    {{- end }}
  ports:
    - {protocol: TCP, port: {{ .Values.network.databasePort }}}
{{- end }}
