{{- define "hfcs.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) }}
{{- $name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "hfcs.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "hfcs.name" .) .Values.serviceAccount.name }}{{ else }}{{ default "default" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- define "hfcs.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "hfcs.labels" -}}
{{ include "hfcs.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "hfcs.image" -}}
image: {{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{/* What all pods have: who they are, where they run, and what is mounted. */}}
{{- define "hfcs.pod" -}}
serviceAccountName: {{ include "hfcs.serviceAccount" . }}
automountServiceAccountToken: false
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
volumes:
  - name: cache
    {{- if eq .Values.cache.type "claim" }}
    persistentVolumeClaim:
      claimName: {{ required "cache.existingClaim: name the claim" .Values.cache.existingClaim }}
    {{- else }}
    hostPath:
      path: {{ .Values.cache.hostPath }}
      type: {{ if .Values.cache.prepareHostPath.enabled }}DirectoryOrCreate{{ else }}Directory{{ end }}
    {{- end }}
  - name: tmp
    emptyDir:
      sizeLimit: {{ .Values.tmpSize }}
{{- with .Values.extraVolumes }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}

{{- define "hfcs.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What all containers that run the program have. */}}
{{- define "hfcs.container" -}}
{{ include "hfcs.image" . }}
securityContext: {{- include "hfcs.securityContext" . | nindent 2 }}
env:
  - name: NODE_IP
    valueFrom: {fieldRef: {fieldPath: status.hostIP}}
  - name: HF_CACHE_SYNC_REMOTE
    value: {{ required "remote: say where the bucket is, as in s3://bucket/prefix" .Values.remote | quote }}
  {{- with .Values.endpoint }}
  - name: AWS_ENDPOINT_URL_S3
    value: {{ . | quote }}
  {{- end }}
  {{- with .Values.region }}
  - name: AWS_REGION
    value: {{ . | quote }}
  {{- end }}
  {{- with .Values.proxy }}
  - name: HF_CACHE_SYNC_PROXY
    value: {{ . | quote }}
  {{- end }}
  {{- $secret := .Values.credentials.existingSecret }}
  {{- $access := .Values.credentials.accessKeyEntry }}
  {{- $key := .Values.credentials.secretKeyEntry }}
  {{- if .Values.credentials.create }}
  {{- if $secret }}{{ fail "credentials.create and credentials.existingSecret are two Secrets: keep one" }}{{ end }}
  {{- $secret = include "hfcs.name" . }}{{ $access = "access-key" }}{{ $key = "secret-key" }}
  {{- end }}
  {{- if $secret }}
  - name: AWS_ACCESS_KEY_ID
    valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: {{ $access | quote }}}}
  - name: AWS_SECRET_ACCESS_KEY
    valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: {{ $key | quote }}}}
  {{- end }}
  {{- with .Values.hubToken.existingSecret }}
  - name: HF_TOKEN
    valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: {{ $.Values.hubToken.entry | quote }}}}
  {{- end }}
  - {name: HOME, value: /tmp}
  - {name: HF_HUB_CACHE, value: /cache/hub}
  - {name: XDG_STATE_HOME, value: /cache/state}
  - {name: XDG_CACHE_HOME, value: /tmp/cache}
{{- with .Values.extraEnv }}
{{ toYaml . | indent 2 }}
{{- end }}
volumeMounts:
  - {name: cache, mountPath: /cache}
  - {name: tmp, mountPath: /tmp}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}

{{/* One container for each repository: the image has no shell for a loop. */}}
{{- define "hfcs.pulls" -}}
{{- if and (eq .Values.cache.type "hostPath") .Values.cache.prepareHostPath.enabled }}
- name: prepare
  image: {{ .Values.cache.prepareHostPath.image | quote }}
  command: [chown, {{ printf "%v:%v" .Values.podSecurityContext.runAsUser .Values.podSecurityContext.runAsGroup | quote }}, /cache]
  securityContext:
    runAsNonRoot: false
    runAsUser: 0
    runAsGroup: 0
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
      add: [CHOWN]
  resources: {{- toYaml .Values.resources.pause | nindent 4 }}
  volumeMounts:
    - {name: cache, mountPath: /cache}
{{- end }}
{{- range $i, $r := .Values.repos }}
- name: pull-{{ $i }}
  args:
    - pull
    - {{ $r.repo | quote }}
    {{- with $r.revision }}
    - {{ printf "--revision=%v" . | quote }}
    {{- end }}
    {{- range $r.include }}
    - {{ printf "--include=%s" . | quote }}
    {{- end }}
    {{- range $r.exclude }}
    - {{ printf "--exclude=%s" . | quote }}
    {{- end }}
    {{- if and $.Values.pull.requireComplete (not $r.include) (not $r.exclude) }}
    - --require-complete
    {{- end }}
    {{- if $.Values.pull.fallback }}
    - --fallback=hf-hub
    {{- end }}
    {{- if $.Values.pull.backfill }}
    - --backfill
    {{- end }}
    {{- range $.Values.pull.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  resources: {{- toYaml $.Values.resources.pull | nindent 4 }}
  {{- include "hfcs.container" $ | nindent 2 }}
{{- end }}
{{- end }}

{{- define "hfcs.config" -}}
cache:
  max_local_gb: {{ .Values.prune.maxSizeGB }}
  keep: {{ .Values.prune.keep | toJson }}
{{- end }}
