package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// TestDoctorOfReadOnlyService shows doctor a service that lets nobody write, to
// whom a key for pulling alone looks the same.
func TestDoctorOfReadOnlyService(t *testing.T) {
	root, cache := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "bucket"), 0o700); err != nil {
		t.Fatal(err)
	}
	service, err := testenv.StartS3(t.Context(), root, "--readonly")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Stop)
	for _, tc := range []struct {
		flags []string
		exit  int
		want  string
	}{
		{nil, 0, "warn"},
		{[]string{"--write"}, 1, "fail"},
	} {
		args := append([]string{"doctor", "--json", "--remote", "s3://bucket/team", "--cache-dir", cache}, tc.flags...)
		cmd := exec.Command(testenv.Binary(t).Args[0], args...)
		cmd.Env = append(service.Env(), "HOME="+t.TempDir())
		out, _ := cmd.Output() // How it ended is in the state.
		if code := cmd.ProcessState.ExitCode(); code != tc.exit {
			t.Errorf("%q: exit code %d", tc.flags, code)
		}
		var report struct {
			OK     bool `json:"ok"`
			Checks []struct{ Name, Status, Detail string }
		}
		if err := json.Unmarshal(out, &report); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		found := map[string]string{}
		for _, check := range report.Checks {
			found[check.Name] = check.Status
		}
		if found["write"] != tc.want || found["read"] != "ok" || found["bucket reachable"] != "ok" || report.OK != (tc.exit == 0) {
			t.Errorf("%q: %s", tc.flags, out)
		}
	}
}
