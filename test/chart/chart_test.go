// Package chart_test renders charts/hf-cache-sync with `helm template`, reads every
// document of it and of examples/kubernetes strictly as the types of the Kubernetes
// API, holds the pods to the "restricted" level of pod security, and gives each
// command line in them to the program.
//
// It is a module of its own, because the API's types are large. No cluster is asked.
package chart_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

const chart = "../../charts/hf-cache-sync"

// tool is a program of the repository; variable names another one.
func tool(t *testing.T, variable, path string) string {
	t.Helper()
	name, err := filepath.Abs(path)
	if given := os.Getenv(variable); given != "" {
		name = given
	}
	if _, statErr := os.Stat(name); err != nil || statErr != nil {
		t.Fatalf("%s is missing: run make tools build", name)
	}
	return name
}

// helm runs it and returns what it printed.
func helm(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	bin := tool(t, "HFCS_HELM", "../../.cache/bin/helm")
	cmd := exec.CommandContext(t.Context(), bin, append(args, "--kube-version=1.30.0")...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &said, []string{"HOME=" + t.TempDir()}
	err = cmd.Run()
	return out.String(), said.String(), err
}

func render(t *testing.T, values ...string) []document {
	t.Helper()
	out, said, err := helm(t, append([]string{"template", "release", chart}, values...)...)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, said)
	}
	return documents(t, out)
}

// document is one of a stream of YAML documents, and its pod, if it has one.
type document struct {
	kind, name string
	value      any
	pod        *corev1.PodSpec
	meta       *metav1.ObjectMeta // of the pod
}

func documents(t *testing.T, text string) (all []document) {
	t.Helper()
	for part := range strings.SplitSeq("\n"+text, "\n---\n") {
		var any map[string]any
		if err := yaml.Unmarshal([]byte(part), &any); err != nil {
			t.Fatalf("%v in\n%s", err, part)
		}
		if len(any) > 0 { // not only comments
			all = append(all, strict(t, part))
		}
	}
	return all
}

// strict reads a document as its type. A key that the type lacks, or has twice, fails.
func strict(t *testing.T, text string) document {
	t.Helper()
	var head struct {
		metav1.TypeMeta
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	if err := yaml.Unmarshal([]byte(text), &head); err != nil {
		t.Fatal(err)
	}
	d := document{kind: head.Kind, name: head.Metadata.Name}
	template := func(p *corev1.PodTemplateSpec) { d.pod, d.meta = &p.Spec, &p.ObjectMeta }
	switch head.APIVersion + " " + head.Kind {
	case "apps/v1 DaemonSet":
		v := new(appsv1.DaemonSet)
		d.value = v
		template(&v.Spec.Template)
	case "apps/v1 Deployment":
		v := new(appsv1.Deployment)
		d.value = v
		template(&v.Spec.Template)
	case "batch/v1 Job":
		v := new(batchv1.Job)
		d.value = v
		template(&v.Spec.Template)
	case "batch/v1 CronJob":
		v := new(batchv1.CronJob)
		d.value = v
		template(&v.Spec.JobTemplate.Spec.Template)
	case "v1 ServiceAccount":
		d.value = new(corev1.ServiceAccount)
	case "v1 Secret":
		d.value = new(corev1.Secret)
	case "v1 ConfigMap":
		d.value = new(corev1.ConfigMap)
	case "v1 Service":
		d.value = new(corev1.Service)
	case "serving.kserve.io/v1alpha1 ClusterStorageContainer":
		d.value = new(storageContainer)
	case "serving.kserve.io/v1beta1 InferenceService":
		d.value = new(inferenceService)
	default:
		t.Fatalf("a document of an unknown type: %s %s", head.APIVersion, head.Kind)
	}
	if err := yaml.UnmarshalStrict([]byte(text), d.value); err != nil {
		t.Fatalf("%s %s: %v\n%s", d.kind, d.name, err, text)
	}
	return d
}

// The types of KServe, as far as the example goes: pkg/apis/serving/v1alpha1/storage_container_types.go and v1beta1/predictor.go of kserve/kserve.
type storageContainer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec struct {
		Container           corev1.Container `json:"container"`
		SupportedURIFormats []struct {
			Prefix string `json:"prefix"`
			Regex  string `json:"regex"`
		} `json:"supportedUriFormats"`
	} `json:"spec"`
}

type inferenceService struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec struct {
		Predictor struct {
			Model struct {
				ModelFormat struct {
					Name string `json:"name"`
				} `json:"modelFormat"`
				StorageURI string                      `json:"storageUri"`
				Resources  corev1.ResourceRequirements `json:"resources"`
			} `json:"model"`
		} `json:"predictor"`
	} `json:"spec"`
}

// forbidden returns what the level "restricted" does not allow in a pod.
func forbidden(t *testing.T, d document) []string {
	t.Helper()
	checks, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	results := checks.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.MajorMinorVersion(1, 30)}, d.meta, d.pod)
	var all []string
	for _, r := range results {
		if !r.Allowed {
			all = append(all, r.ForbiddenReason)
		}
	}
	slices.Sort(all)
	return all
}

// sound checks what every pod of ours has to be.
func sound(t *testing.T, d document) {
	t.Helper()
	if d.pod == nil {
		return
	}
	volumes := map[string]bool{}
	for _, v := range d.pod.Volumes {
		volumes[v.Name] = true
	}
	for _, c := range slices.Concat(d.pod.InitContainers, d.pod.Containers) {
		if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
			t.Errorf("%s: %s has no limit of memory, or asks for no processor", d.kind, c.Name)
		}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%s: %s mounts %s, which is no volume", d.kind, c.Name, m.Name)
			}
		}
		if !strings.Contains(c.Image, "/hf-cache-sync:") {
			continue
		}
		if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
			t.Errorf("%s: %s can write to its root", d.kind, c.Name)
		}
		understood(t, c)
	}
}

// understood gives the command line of a container to the program, with its variables as far as they are written there. The bucket is an empty folder: a pull
// that was understood ends with "not in the bucket".
func understood(t *testing.T, c corev1.Container) {
	t.Helper()
	dir := t.TempDir()
	args := slices.Clone(c.Args)
	want := 0
	switch args[0] {
	case "pull":
		args, want = append(args, "--dry-run"), 5
		if slices.Contains(args, "--fallback=hf-hub") {
			want = 7 // the Hub is not asked either
		}
	case "prune":
		args = append(args, "--dry-run")
	case "watch":
		args = append(args, "--once")
	case "list":
	default:
		t.Errorf("%s runs %q", c.Name, args)
		return
	}
	env := map[string]string{}
	for _, e := range c.Env {
		env[e.Name] = e.Value
	}
	for _, name := range []string{"HF_CACHE_SYNC_REMOTE", "HF_HUB_CACHE", "HOME"} {
		if env[name] == "" {
			t.Errorf("%s: %s is not set", c.Name, name)
		}
	}
	maps.Copy(env, map[string]string{
		"HF_CACHE_SYNC_REMOTE": "file://" + dir + "/bucket", "HF_HUB_CACHE": dir + "/hub", "HOME": dir, "XDG_STATE_HOME": dir + "/state", "XDG_CACHE_HOME": dir + "/read",
		"HF_HUB_OFFLINE": "1", // no test asks the Hub
	})
	for _, path := range []string{"bucket", "hub"} {
		if err := os.Mkdir(filepath.Join(dir, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, []byte("cache:\n  max_local_gb: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, arg := range args {
		switch {
		case strings.HasPrefix(arg, "--config="):
			args[i] = "--config=" + config
		case strings.HasPrefix(arg, "--metrics-addr="):
			if _, port, ok := strings.Cut(arg, "=:"); !ok || port != fmt.Sprint(c.Ports[0].ContainerPort) {
				t.Errorf("%s: %s, and the port is %d", c.Name, arg, c.Ports[0].ContainerPort)
			}
			args[i] = "--metrics-addr=127.0.0.1:0"
		}
	}
	cmd := exec.CommandContext(t.Context(), tool(t, "HFCS_BIN", "../../bin/hf-cache-sync"), args...)
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	said, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
		t.Errorf("%s: %q: %v, want exit code %d\n%s", c.Name, args, err, want, said)
	}
}

func TestChart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		values []string
		kinds  []string // with what "restricted" does not allow of them
	}{
		{"default", []string{"--set=remote=s3://bucket,repos[0].repo=org/name"}, []string{"DaemonSet: restricted volume types", "ServiceAccount"}},
		{"no repositories", []string{"--set=remote=file:///data"}, []string{"DaemonSet: restricted volume types", "ServiceAccount"}},
		{
			"all",
			[]string{"--values=testdata/full.yaml"},
			[]string{"ConfigMap", "DaemonSet: restricted volume types, runAsNonRoot != true, runAsUser=0, unrestricted capabilities", "ServiceAccount"},
		},
		{"claim", []string{"--values=testdata/claim.yaml"}, []string{"CronJob", "Job", "ServiceAccount"}},
		{"watch on a claim", []string{"--values=testdata/claim.yaml", "--set=preload.kind=DaemonSet,preload.then=watch"}, []string{"ConfigMap", "CronJob", "DaemonSet", "ServiceAccount"}},
		{
			"secret of its own",
			[]string{"--values=testdata/claim.yaml", "--set=credentials.create=true,credentials.accessKey=id,credentials.secretKey=key"},
			[]string{"CronJob", "Job", "Secret", "ServiceAccount"},
		},
		{"little", []string{"--values=testdata/claim.yaml", "--set=preload.kind=none,prune.enabled=false,serviceAccount.create=false"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var kinds []string
			for _, d := range render(t, c.values...) {
				sound(t, d)
				kind := d.kind
				if d.pod != nil {
					if reasons := forbidden(t, d); len(reasons) > 0 {
						kind += ": " + strings.Join(reasons, ", ")
					}
				}
				kinds = append(kinds, kind)
			}
			slices.Sort(kinds)
			if diff := cmp.Diff(c.kinds, kinds); diff != "" {
				t.Errorf("documents (-want +got):\n%s", diff)
			}
			if _, said, err := helm(t, append([]string{"lint", "--strict", chart}, c.values...)...); err != nil {
				t.Errorf("helm lint: %v\n%s", err, said)
			}
		})
	}
}

// TestKeys sees that keys come from where the values say, and are nowhere else.
func TestKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		values  []string
		want    map[string]string // secret and entry, by variable
		account string
	}{
		{"existing", []string{"--values=testdata/full.yaml"}, map[string]string{
			"AWS_ACCESS_KEY_ID": "keys id", "AWS_SECRET_ACCESS_KEY": "keys secret", "HF_TOKEN": "hub token",
		}, "release-hf-cache-sync"},
		{"workload identity", []string{"--values=testdata/claim.yaml"}, map[string]string{}, "reader"},
		{
			"own",
			[]string{"--values=testdata/claim.yaml", "--set=credentials.create=true,credentials.accessKey=id,credentials.secretKey=key"},
			map[string]string{"AWS_ACCESS_KEY_ID": "release-hf-cache-sync access-key", "AWS_SECRET_ACCESS_KEY": "release-hf-cache-sync secret-key"},
			"reader",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, d := range render(t, c.values...) {
				if account, ok := d.value.(*corev1.ServiceAccount); ok && c.name == "workload identity" && account.Annotations["eks.amazonaws.com/role-arn"] == "" {
					t.Errorf("annotations %v", account.Annotations)
				}
				if d.pod == nil {
					continue
				}
				if d.pod.ServiceAccountName != c.account {
					t.Errorf("%s: account %s, want %s", d.kind, d.pod.ServiceAccountName, c.account)
				}
				for _, container := range slices.Concat(d.pod.InitContainers, d.pod.Containers) {
					if container.Name == "prepare" {
						continue
					}
					got := map[string]string{}
					for _, e := range container.Env {
						if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
							got[e.Name] = e.ValueFrom.SecretKeyRef.Name + " " + e.ValueFrom.SecretKeyRef.Key
						}
					}
					if diff := cmp.Diff(c.want, got); diff != "" {
						t.Errorf("%s, %s (-want +got):\n%s", d.kind, container.Name, diff)
					}
				}
			}
		})
	}
}

func TestWrongValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ set, want string }{
		{"remote=", "remote: say where the bucket is"},
		{"remote=bucket", "remote"},
		{"proxy=ftp://host", "proxy"},
		{"repos[0].name=org/name", "repos"},
		{"repos[0].repo=name", "repo"},
		{"repos[0].repo=--yes/x", "repo"},
		{"imagee=x", "imagee"},
		{"cache.type=nfs", "type"},
		{"cache.type=claim", "cache.existingClaim: name the claim"},
		{"prune.enabled=true", "one node of many"},
		{"prune.maxSizeGB=0", "maxSizeGB"},
		{"prune.olderThan=month", "olderThan"},
		{"preload.kind=Job", "one node of many"},
		{"preload.then=sleep", "then"},
		{"watch.metricsPort=80", "metricsPort"},
		{"credentials.create=true", "credentials.accessKey"},
		{"credentials.create=true,credentials.accessKey=a,credentials.secretKey=b,credentials.existingSecret=x", "two Secrets"},
	} {
		t.Run(c.set, func(t *testing.T) {
			t.Parallel()
			values := []string{"template", "release", chart, "--set=remote=s3://bucket,repos[0].repo=org/name", "--set=" + c.set}
			if _, said, err := helm(t, values...); err == nil || !strings.Contains(said, c.want) {
				t.Errorf("%v, said %q, want %q", err, said, c.want)
			}
		})
	}
}

func TestExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../examples/kubernetes/*.yaml")
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range documents(t, string(text)) {
			sound(t, d)
			if d.kind != "Deployment" {
				continue
			}
			if diff := cmp.Diff([]string{"restricted volume types"}, forbidden(t, d)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", d.name, diff)
			}
		}
	}
}
