package config_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
)

func FuzzParseFile(f *testing.F) {
	f.Add([]byte(python))
	f.Fuzz(func(t *testing.T, data []byte) {
		var file *config.File
		var err error
		if taken := allocated(func() { file, err = config.ParseFile("c.yaml", data) }); tooMuch(taken, len(data)) {
			t.Errorf("%d bytes took %d to read", len(data), taken)
		}
		if err != nil {
			if _, ok := errors.AsType[*config.FileError](err); !ok || file != nil {
				t.Errorf("got %v, %v", file, err)
			}
			return
		}
		if size, _ := file.MaxLocal(); size < 0 {
			t.Errorf("the budget is %d", size)
		}
		if remote, err := config.ResolveRemote("", vars{}.lookup, file); err == nil {
			checkRemote(t, remote)
		}
		credentials, _ := config.ResolveCredentials(vars{}.lookup, file)
		secret := credentials.SecretKey
		for _, text := range []string{fmt.Sprint(file), fmt.Sprintf("%+v %#v", file, file), fmt.Sprintf("%+v %#v", credentials, credentials)} {
			// A shorter one can be a part of what is printed by chance.
			if len(secret) > 10 && strings.Contains(text, secret) {
				t.Errorf("the secret is in %q", text)
			}
		}
	})
}

func FuzzParseRemote(f *testing.F) {
	f.Add("s3://bucket/a/b")
	f.Fuzz(func(t *testing.T, in string) {
		got, err := config.ParseRemote(in)
		if err != nil {
			return
		}
		again, err := config.ParseRemote(got.String())
		if err != nil || again != got {
			t.Errorf("%q is %+v, whose text %q reads back as %+v, %v", in, got, got.String(), again, err)
		}
		checkRemote(t, got)
	})
}

// checkRemote fails unless a remote is one that can be opened without a surprise.
func checkRemote(t *testing.T, r config.Remote) {
	t.Helper()
	switch r.Kind {
	case config.Folder:
		if runtime.GOOS != "windows" && !filepath.IsAbs(r.Path) {
			t.Errorf("the relative folder %q", r.Path)
		}
	case config.S3:
		if r.Bucket == "" || strings.ContainsAny(r.Bucket, "/\\@:?#% \n") {
			t.Errorf("the bucket %q", r.Bucket)
		}
		if strings.HasPrefix(r.Prefix, "/") || strings.HasSuffix(r.Prefix, "/") {
			t.Errorf("the prefix %q", r.Prefix)
		}
		if strings.Contains(r.Endpoint, "@") {
			t.Errorf("the endpoint %q", r.Endpoint)
		}
	default:
		t.Errorf("a remote of kind %v", r.Kind)
	}
}

// allocated is how many bytes f allocates, be they garbage by now, and what others do meanwhile.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// tooMuch says whether what was allocated for an input of size bytes is more than a multiple of it, beyond what is needed anyway.
func tooMuch(taken uint64, size int) bool { return taken > 1<<20+500*uint64(size) }
