package faults_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/test/faultproxy"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// TestExpiredToken has the token expire in the middle of a transfer. That ends
// it, without a second try, and with a good token it goes on where it was.
func TestExpiredToken(t *testing.T) {
	t.Parallel()
	f := faultproxy.Expired()
	blobs := f.Only((*faultproxy.Request).Blob)
	t.Run("push", func(t *testing.T) {
		t.Parallel()
		s, r := newSite(t, eager()), model()
		from := home(t, r)
		s.Use(until(5, blobs, f))
		got := s.must(t, 4, from, "push", "-v")
		checkOnce(t, got)
		if !strings.Contains(got.Stderr, "ExpiredToken") || !strings.Contains(got.Stderr, "hint: ") {
			t.Errorf("it does not say why: %s", got)
		}
		s.audit.Bucket(t, s.bucket)
		n := s.Count(f.Name)
		s.Use(nil)
		s.must(t, 0, from, "push")
		s.checkBucket(t, r)
		record(t, "a token that expires in the middle of a push", n, figures(s.Proxy))
	})
	t.Run("pull", func(t *testing.T) {
		t.Parallel()
		r := model()
		s := holding(t, eager(), r)
		to := t.TempDir()
		s.Use(until(5, blobs, f))
		got := s.must(t, 4, to, "pull", r.Repo, "-v")
		checkOnce(t, got)
		if !strings.Contains(got.Stderr, "ExpiredToken") || !strings.Contains(got.Stderr, "hint: ") {
			t.Errorf("it does not say why: %s", got)
		}
		s.audit.Cache(t, hub(to))
		if _, err := os.Stat(filepath.Join(hub(to), r.Folder(), "refs", "main")); err == nil {
			t.Error("a ref names what is not all there")
		}
		n := s.Count(f.Name)
		s.Use(nil)
		s.must(t, 0, to, "pull", r.Repo)
		checkCache(t, to, r)
		record(t, "a token that expires in the middle of a pull", n, figures(s.Proxy))
	})
}

// checkOnce fails if something was tried again, by the log of -v.
func checkOnce(t *testing.T, got testenv.Result) {
	t.Helper()
	if strings.Contains(got.Stderr, "retrying") {
		t.Errorf("it tries again what cannot help: %s", got)
	}
}

// until lets so many requests pass that the first fault can happen to. From then
// on, all requests meet the second.
func until(n int, first, then *faultproxy.Fault) faultproxy.Plan {
	passed := faultproxy.After(n, first)
	over := false
	return func(r *faultproxy.Request) *faultproxy.Fault {
		over = over || passed(r) != nil
		if over {
			return then
		}
		return nil
	}
}

// TestClockSkew has the store refuse requests because of the time. That is this
// machine's fault: it says so, and does not try again.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{-7 * time.Hour, 7 * time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			t.Parallel()
			r := small()
			s := holding(t, eager(), r)
			f := faultproxy.Skewed(by)
			s.Use(faultproxy.Always(f))
			from := home(t, r)
			for _, args := range [][]string{{"push"}, {"pull", r.Repo}, {"pull-all"}, {"list", "--remote"}} {
				got := s.must(t, 4, from, append(args, "-v")...)
				checkOnce(t, got)
				if !strings.Contains(got.Stderr, "RequestTimeTooSkewed") || !strings.Contains(got.Stderr, "hint: set this machine's clock") {
					t.Errorf("%q does not say that the clock is wrong: %s", args, got)
				}
			}
			if got := s.must(t, 1, from, "doctor"); !strings.Contains(got.Stdout, "✗ clock") {
				t.Errorf("doctor does not find it: %s", got)
			}
			record(t, f.Name+", by "+by.String(), s.Count(f.Name), figures(s.Proxy))
		})
	}
}

// TestStoreOfAnotherTime has a store that takes everything and whose clock is
// hours off. A ref is never learned later than now by the store's clock, and
// doctor names the difference.
func TestStoreOfAnotherTime(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{-7 * time.Hour, 7 * time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			t.Parallel()
			s, r := newSite(t, eager()), small()
			f := faultproxy.OtherTime(by)
			s.Use(faultproxy.Always(f))
			from, to := home(t), t.TempDir()
			var pushed []testenv.Revision
			// The last is learned later than the store has it.
			for i, ago := range []time.Duration{9 * time.Hour, 8 * time.Hour, -by - 10*time.Hour} {
				r.Commit = testenv.Commit(fmt.Sprint("another time ", i))
				r.WriteCache(t, hub(from))
				learned := time.Now().Add(-ago)
				if err := os.Chtimes(filepath.Join(hub(from), r.Folder(), "refs", "main"), learned, learned); err != nil {
					t.Fatal(err)
				}
				pushed = append(pushed, r)
				s.must(t, 0, from, "push")
				s.checkBucket(t, pushed...)
				s.must(t, 0, to, "pull", r.Repo)
				testenv.AuditCache(t, hub(to))
				r.Compare(t, hub(to))
			}
			// Who learned something else later than the store's now, and before what the
			// last one says of itself, keeps it. The bucket knows nothing of it: else the
			// first claim would count.
			other := r
			other.Commit = testenv.Commit("another time, elsewhere")
			keeper := home(t, other)
			main := filepath.Join(hub(keeper), other.Folder(), "refs", "main")
			learned := time.Now().Add(by + 5*time.Hour)
			if err := os.Chtimes(main, learned, learned); err != nil {
				t.Fatal(err)
			}
			got := s.must(t, 0, keeper, "pull", r.Repo)
			if ref, err := os.ReadFile(main); err != nil || string(ref) != other.Commit || !strings.Contains(got.Stdout+got.Stderr, "learned later") {
				t.Errorf("the bucket's ref is from the future: main is %q, %v: %s", ref, err, got)
			}
			if got = s.run(t, from, "doctor"); !strings.Contains(got.Stdout, "✗ clock") {
				t.Errorf("doctor does not find it: %s", got)
			}
			record(t, f.Name+", on every answer of pushes and a pull", s.Count(f.Name), figures(s.Proxy))
		})
	}
}

// TestChecksumHeader has a store refuse the header of S3's newer checksums. Only
// who asks for it by the configuration meets that, and is told.
func TestChecksumHeader(t *testing.T) {
	t.Parallel()
	s, r := newSite(t, eager()), model()
	f := faultproxy.NoChecksums()
	s.Use(faultproxy.Always(f))
	from, to := home(t, r), t.TempDir()
	config := filepath.Join(t.TempDir(), "config.yaml")
	testenv.WriteFile(t, config, []byte("storage: {checksum: sha256}\n"))
	got := s.run(t, from, "push", "--config", config)
	if got.Code == 0 || !strings.Contains(got.Stderr, "x-amz-checksum-sha256") {
		t.Errorf("it does not say what is refused: %s", got)
	}
	if !strings.Contains(got.Stderr, "storage.checksum") {
		t.Errorf("it does not say what to change: %s", got)
	}
	s.audit.Bucket(t, s.bucket)
	// Another proxy: this one may still be at work on requests of a program that has ended.
	other := faultproxy.New(t, server.Endpoint)
	other.Use(faultproxy.Always(f))
	quiet := s.with("B2_ENDPOINT=" + other.URL)
	quiet.must(t, 0, from, "push")
	s.checkBucket(t, r)
	quiet.must(t, 0, to, "pull", r.Repo)
	checkCache(t, to, r)
	if n := other.Count(f.Name); n != 0 {
		t.Errorf("%d requests had the header though nobody asked for it", n)
	}
	record(t, f.Name+", for those that ask for checksums", s.Count(f.Name), figures(s.Proxy))
}

// TestRetryAfter has the store say how long to wait. The wait is at least that
// long, and that is what the log says, whatever the waits are otherwise.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	r := small()
	s := holding(t, eager(), r)
	f := faultproxy.SlowDown(time.Second)
	s.Use(faultproxy.FirstOfEach(2, f))
	to := t.TempDir()
	got := s.must(t, 0, to, "pull", r.Repo, "-v", "--json-events")
	checkCache(t, to, r)
	waits := 0
	for line := range strings.Lines(got.Stderr) {
		var entry struct {
			Msg  string
			Wait time.Duration
		}
		if json.Unmarshal([]byte(line), &entry) != nil || entry.Msg != "retrying" {
			continue
		}
		waits++
		if entry.Wait < time.Second {
			t.Errorf("a wait of %s: %s", entry.Wait, line)
		}
	}
	if n := s.Count(f.Name); waits != n {
		t.Errorf("%d waits for %d answers: %s", waits, n, got)
	}
	record(t, f.Name+" of a second, in a pull", s.Count(f.Name), "each wait was as long as asked for, by the log")
}

// TestNoConditionalWrites has two machines push parts of the same commit to a
// store that checks no conditions.
func TestNoConditionalWrites(t *testing.T) {
	t.Parallel()
	s, r := newSite(t, eager()), small()
	f := faultproxy.NoConditions()
	s.Use(faultproxy.Always(f))
	a, b := r, r
	a.Files, b.Files = r.Files[:2], r.Files[2:]
	a.Bare, b.Bare = true, true
	first, second, to := home(t, a), home(t, b), t.TempDir()
	s.must(t, 0, first, "push")
	s.must(t, 0, second, "push")
	s.checkBucket(t, r)
	s.must(t, 0, to, "pull", r.Repo)
	checkCache(t, to, r)
	record(t, f.Name+", when two machines push parts of a commit", s.Count(f.Name), figures(s.Proxy))
}

// TestAlwaysFlipped has all copies of a blob arrive with a flipped byte. It gets
// no final name, and the exit code says why.
func TestAlwaysFlipped(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"model-1.safetensors", "shards/3.bin"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			r := model()
			s := holding(t, eager(), r)
			id := r.File(t, path).ID()
			f := faultproxy.Flip().Only(func(r *faultproxy.Request) bool { return strings.HasSuffix(r.URL.Path, id) })
			s.Use(faultproxy.Always(f))
			to := t.TempDir()
			got := s.must(t, 6, to, "pull", r.Repo)
			if !strings.Contains(got.Stderr, id) {
				t.Errorf("it does not name the blob: %s", got)
			}
			s.audit.Cache(t, hub(to))
			for _, name := range []string{"blobs/" + id, "refs/main", "snapshots/" + r.Commit + "/" + path} {
				if _, err := os.Lstat(filepath.Join(hub(to), r.Folder(), filepath.FromSlash(name))); err == nil {
					t.Errorf("%s is there", name)
				}
			}
			n := s.Count(f.Name)
			s.must(t, 6, to, "verify", "--remote")
			s.Use(nil)
			s.must(t, 0, to, "pull", r.Repo)
			checkCache(t, to, r)
			record(t, f.Name+" of a blob, always: "+path, n, figures(s.Proxy))
		})
	}
}
