//go:build unix

package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// line is one line of a watcher's log.
type line struct {
	Level, Msg, Repo, Commit, Address, Hint, Kind, Text string
	Blobs                                               int
	Changed                                             []string
}

// watcher is hf-cache-sync watch at work on the cache below home.
type watcher struct {
	*running
	home string
}

// watchCache starts a watcher that does not wait long for quiet.
func watchCache(t *testing.T, r testenv.Remote, home string, args ...string) watcher {
	t.Helper()
	w := watcher{start(t, r, home, nil, append([]string{"watch", "--debounce=100ms"}, args...)...), home}
	// What never comes must not hold up all tests; with the watcher its log ends.
	timer := time.AfterFunc(time.Minute, func() { _ = w.cmd.Process.Kill() })
	t.Cleanup(func() { timer.Stop() })
	return w
}

// log reads the log until a line with this message.
func (w watcher) log(t *testing.T, msg string) line {
	t.Helper()
	for w.lines.Scan() {
		w.stderr.WriteString(w.lines.Text() + "\n")
		var l line
		if err := json.Unmarshal(w.lines.Bytes(), &l); err != nil {
			t.Fatalf("%q on standard error: %v", w.lines.Text(), err)
		}
		if l.Msg == msg {
			return l
		}
	}
	t.Fatalf("it ended before it said %q:\n%s", msg, &w.stderr)
	return line{}
}

// stop ends the watcher as a service manager does, and wants that to go well.
func (w watcher) stop(t *testing.T) {
	t.Helper()
	w.signal(t, syscall.SIGTERM)
	if status := w.end(t); !status.Exited() || status.ExitStatus() != 0 {
		t.Errorf("it ended with %v:\n%s", status, &w.stderr)
	}
}

func (w watcher) said(text string) bool { return strings.Contains(w.stderr.String(), text) }

// named is the sample under another name and with other content.
func named(repo string) testenv.Revision {
	r := testenv.Sample()
	r.Repo, r.Commit = repo, testenv.Commit(repo)
	r.Files = append(r.Files, testenv.Content{Path: "name.txt", Data: []byte(repo)})
	return r
}

func fetchText(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // It was only read from.
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestWatch has a client download into a cache that is watched: first what the
// watcher finds at its start, then what appears later, in a new repository and
// in one that is known. Another machine must get all of it.
func TestWatch(t *testing.T) {
	t.Parallel()
	for _, bucket := range []func(*testing.T) testenv.Remote{testenv.FileRemote, server.Remote} {
		for _, how := range []string{"", "--poll"} {
			remote := bucket(t)
			t.Run(remote.Name+how, func(t *testing.T) {
				t.Parallel()
				home := t.TempDir()
				hub := filepath.Join(home, "hub")
				suffix := strings.TrimPrefix(how, "--") // no id may have two dashes
				first, second := named("org/first"+suffix), named("org/second"+suffix)
				later := named("org/first" + suffix)
				later.Commit, later.Refs = testenv.Commit("later"), []string{"refs/pr/1"}
				first.WriteCache(t, hub)
				args := []string{"--metrics-addr=127.0.0.1:0"}
				if how != "" {
					args = append(args, how, "--rescan=50ms")
				}
				w := watchCache(t, remote, home, args...)
				url := "http://" + w.log(t, "serving metrics").Address
				for _, r := range []testenv.Revision{first, second, later} {
					if r.Repo != first.Repo || r.Commit == later.Commit {
						r.WriteCache(t, hub)
					}
					if l := w.log(t, "pushed"); l.Repo != r.Repo || l.Commit != r.Commit {
						// A slow machine may see a part of it first.
						t.Logf("pushed %s@%s", l.Repo, l.Commit)
					}
					w.log(t, "refs moved")
				}
				status, text := fetchText(t, url+"/metrics")
				for _, want := range []string{
					"hf_cache_sync_watch_pushed_blobs_total ", "hf_cache_sync_watch_folders_watched ", "hf_cache_sync_watch_up 1\n", "hf_cache_sync_watch_queue_repos ",
					"hf_cache_sync_watch_last_success_timestamp_seconds ", "hf_cache_sync_watch_build_info{version=",
					fmt.Sprintf("hf_cache_sync_watch_polling %d\n", len(how)/len("--poll")),
				} {
					if status != http.StatusOK || !strings.Contains(text, want) {
						t.Errorf("status %d, and no %q in:\n%s", status, want, regexp.MustCompile(`(?m)^(go_|#).*\n`).ReplaceAllString(text, ""))
					}
				}
				if status, text = fetchText(t, url+"/healthz"); status != http.StatusOK || !strings.Contains(text, `"ok":true`) {
					t.Errorf("status %d: %s", status, text)
				}
				w.stop(t)

				other := t.TempDir()
				remote.Sync(t, other, "pull-all", "--all-refs", "--include", "org/*"+suffix)
				second.Compare(t, filepath.Join(other, "hub"))
				later.Compare(t, filepath.Join(other, "hub"))
				remote.Sync(t, home, "diff", "--exit-code")
			})
		}
	}
}

// TestWatchWaitsForDownloads has a client in the middle of a download: nothing
// of that revision may be pushed, whatever its ref says, while another one is.
func TestWatchWaitsForDownloads(t *testing.T) {
	t.Parallel()
	for _, remote := range []testenv.Remote{testenv.FileRemote(t), server.Remote(t)} {
		t.Run(remote.Name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			hub := filepath.Join(home, "hub")
			r := named("org/coming")
			r.WriteCache(t, hub)
			whole := named("org/coming")
			whole.Commit, whole.Refs, whole.Files = testenv.Commit("whole"), []string{"v1"}, whole.Files[:1]
			whole.WriteCache(t, hub)
			large := r.File(t, "model.safetensors")
			link := filepath.Join(hub, r.Folder(), "snapshots", r.Commit, large.Path)
			blob := filepath.Join(hub, r.Folder(), "blobs", large.ID())
			for _, err := range []error{os.Remove(link), os.Rename(blob, blob+".0a1b2c3d.incomplete")} {
				if err != nil {
					t.Fatal(err)
				}
			}
			w := watchCache(t, remote, home)
			if l := w.log(t, "pushed"); l.Commit != whole.Commit {
				t.Errorf("%s was pushed", l.Commit)
			}
			if l := w.log(t, "somebody is downloading it; it waits"); l.Commit != r.Commit {
				t.Errorf("%s waits", l.Commit)
			}
			if result := remote.TrySync(t, t.TempDir(), "pull", r.Repo); result.Code != 5 {
				t.Errorf("the bucket knows it: %s", result)
			}
			if err := os.Rename(blob+".0a1b2c3d.incomplete", blob); err != nil {
				t.Fatal(err)
			}
			testenv.Symlink(t, "../../blobs/"+large.ID(), link)
			if l := w.log(t, "pushed"); l.Commit != r.Commit {
				t.Errorf("%s was pushed", l.Commit)
			}
			w.log(t, "refs moved")
			w.stop(t)
			if strings.Count(w.stderr.String(), "it waits") != 1 {
				t.Errorf("it said that more than once:\n%s", &w.stderr)
			}
			other := t.TempDir()
			remote.Sync(t, other, "pull", r.Repo)
			r.Compare(t, filepath.Join(other, "hub"))
		})
	}
}

// TestWatchWaitsForLocks has a client hold the lock of a file of which nothing
// is there yet.
func TestWatchWaitsForLocks(t *testing.T) {
	t.Parallel()
	remote, home := testenv.FileRemote(t), t.TempDir()
	hub := filepath.Join(home, "hub")
	r := named("org/locked")
	r.WriteCache(t, hub)
	large := r.File(t, "model.safetensors")
	link := filepath.Join(hub, r.Folder(), "snapshots", r.Commit, large.Path)
	blob := filepath.Join(hub, r.Folder(), "blobs", large.ID())
	for _, path := range []string{link, blob} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	lock := filepath.Join(hub, ".locks", r.Folder(), large.ID()+".lock")
	testenv.WriteFile(t, lock, nil)
	f, err := os.Open(lock)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // It was only locked.
	if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	w := watchCache(t, remote, home)
	w.log(t, "somebody is downloading it; it waits")
	testenv.WriteFile(t, blob, large.Data)
	testenv.Symlink(t, "../../blobs/"+large.ID(), link)
	if err = syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if l := w.log(t, "pushed"); l.Commit != r.Commit || l.Blobs != len(r.Files) {
		t.Errorf("pushed %+v", l)
	}
	w.stop(t)
}

// TestWatchReadsItsConfigurationAgain on a hangup signal: a good one counts at
// once, and a bad one changes nothing.
func TestWatchReadsItsConfigurationAgain(t *testing.T) {
	t.Parallel()
	remote, home := testenv.FileRemote(t), t.TempDir()
	hub, file := filepath.Join(home, "hub"), filepath.Join(t.TempDir(), "config.yaml")
	excluded, free := named("org/excluded"), named("org/free")
	excluded.WriteCache(t, hub)
	free.WriteCache(t, hub)
	testenv.WriteFile(t, file, []byte("push:\n  exclude: org/ex*\n"))
	w := watchCache(t, remote, home, "--config", file)
	if l := w.log(t, "pushed"); l.Repo != free.Repo {
		t.Errorf("%s was pushed", l.Repo)
	}
	testenv.WriteFile(t, file, []byte("push:\n  exclud: org/ex*\n"))
	w.signal(t, syscall.SIGHUP)
	w.log(t, "the configuration was not read again; the old one stays")
	other := named("org/ex-other")
	other.WriteCache(t, hub)
	again := named("org/again")
	again.WriteCache(t, hub)
	if l := w.log(t, "pushed"); l.Repo != again.Repo {
		t.Errorf("%s was pushed", l.Repo)
	}
	testenv.WriteFile(t, file, []byte("push:\n  exclude: org/ex-*\n"))
	w.signal(t, syscall.SIGHUP)
	l := w.log(t, "the configuration was read again")
	if want := []string{`push.exclude: "org/ex-*", was "org/ex*"`}; len(l.Changed) != 1 || l.Changed[0] != want[0] {
		t.Errorf("changed: %q", l.Changed)
	}
	if l := w.log(t, "pushed"); l.Repo != excluded.Repo {
		t.Errorf("%s was pushed", l.Repo)
	}
	w.stop(t)
	if w.said("ex-other") {
		t.Errorf("it said something of what is excluded:\n%s", &w.stderr)
	}
}

// TestWatchWithRotatedKeys starts with a wrong key, which is said once. The right
// one and a hangup signal, and all is well.
func TestWatchWithRotatedKeys(t *testing.T) {
	t.Parallel()
	remote, home := server.Remote(t), t.TempDir()
	file := filepath.Join(t.TempDir(), "config.yaml")
	var key, secret string
	env := remote.Env[:0:0]
	for _, variable := range remote.Env {
		switch name, value, _ := strings.Cut(variable, "="); name {
		case "AWS_ACCESS_KEY_ID":
			key = value
		case "AWS_SECRET_ACCESS_KEY":
			secret = value
		default:
			env = append(env, variable)
		}
	}
	write := func(secret string) {
		testenv.WriteFile(t, file, fmt.Appendf(nil, "storage:\n  access_key: %s\n  secret_key: %s\n", key, secret))
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := named("org/name")
	r.WriteCache(t, filepath.Join(home, "hub"))
	write("wrong-secret-0123456789")
	w := watchCache(t, testenv.Remote{URL: remote.URL, Env: env}, home, "--config", file, "--metrics-addr=127.0.0.1:0")
	url := "http://" + w.log(t, "serving metrics").Address
	if l := w.log(t, "the bucket cannot be used"); l.Level != "ERROR" || !strings.HasPrefix(l.Hint, "check the key") {
		t.Errorf("%+v", l)
	}
	if _, text := fetchText(t, url+"/metrics"); !strings.Contains(text, `hf_cache_sync_watch_failures_total{kind="denied"} 1`) {
		t.Error(text)
	}
	w.signal(t, syscall.SIGHUP) // The same file: it fails again, and says no more than that it read it.
	w.log(t, "the configuration was read again")
	write(secret)
	w.signal(t, syscall.SIGHUP)
	if l := w.log(t, "the configuration was read again"); len(l.Changed) != 1 || l.Changed[0] != "credentials" {
		t.Errorf("changed: %q", l.Changed)
	}
	w.log(t, "it works again")
	if l := w.log(t, "pushed"); l.Commit != r.Commit {
		t.Errorf("pushed %+v", l)
	}
	w.stop(t)
	if w.said("wrong-secret") || w.said(secret) {
		t.Errorf("a secret was printed:\n%s", &w.stderr)
	}
}

// TestWatchWaitsForTheBucket begins when nobody answers at the bucket's address,
// which is said once, and goes on by itself when somebody does.
func TestWatchWaitsForTheBucket(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err = listener.Close(); err != nil {
		t.Fatal(err)
	}
	remote, home := server.Remote(t), t.TempDir()
	away := testenv.Remote{URL: remote.URL, Env: append([]string{}, remote.Env...)}
	for i, variable := range away.Env {
		if strings.HasPrefix(variable, "B2_ENDPOINT=") {
			away.Env[i] = "B2_ENDPOINT=http://" + address
		}
	}
	r := named("org/name")
	r.WriteCache(t, filepath.Join(home, "hub"))
	w := watchCache(t, away, home)
	if l := w.log(t, "the bucket cannot be used"); l.Level != "ERROR" || l.Hint == "" {
		t.Errorf("%+v", l)
	}
	forward(t, address, strings.TrimPrefix(server.Endpoint, "http://"))
	w.log(t, "it works again")
	if l := w.log(t, "pushed"); l.Commit != r.Commit {
		t.Errorf("pushed %+v", l)
	}
	w.stop(t)
	if strings.Count(w.stderr.String(), "the bucket cannot be used") != 1 {
		t.Errorf("it complained more than once:\n%s", &w.stderr)
	}
}

// forward takes connections at an address and passes their bytes on to another.
func forward(t *testing.T, from, to string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() }) // It has done its work.
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := new(net.Dialer).DialContext(t.Context(), "tcp", to)
			if err != nil {
				_ = near.Close() // The watcher sees it.
				continue
			}
			for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
				go func() {
					_, _ = io.Copy(way[0], way[1]) // Its end is the end of the connection.
					_ = way[0].Close()
				}()
			}
		}
	}()
}

// TestWatchIsStopped in the middle of a large upload. It must end well within
// the time that service managers give, and a push must carry on.
func TestWatchIsStopped(t *testing.T) {
	t.Parallel()
	const patience = 10 * time.Second
	for _, remote := range []testenv.Remote{testenv.FileRemote(t), server.Remote(t)} {
		t.Run(remote.Name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			large().WriteCache(t, filepath.Join(home, "hub"))
			w := watchCache(t, remote, home, "-v", "--bwlimit=4500KB") // So a part of 16 MiB takes four seconds, and all of it nine.
			for w.log(t, "at work").Kind != "item_started" {
			}
			begin := time.Now()
			w.signal(t, syscall.SIGTERM)
			w.log(t, "broken off; the next push carries it on")
			if status := w.end(t); status.ExitStatus() != 0 || time.Since(begin) > patience {
				t.Errorf("it ended with %v after %s:\n%s", status, time.Since(begin), &w.stderr)
			}
			if result := remote.TrySync(t, t.TempDir(), "pull", "org/name"); result.Code != 5 {
				t.Errorf("the bucket has a ref: %s", result)
			}
			var report struct {
				Resumed int64 `json:"resumed_bytes"`
			}
			result := remote.Sync(t, home, "push", "--json")
			if err := json.Unmarshal([]byte(result.Stdout), &report); err != nil {
				t.Fatal(err)
			}
			if report.Resumed < 16*mib {
				t.Errorf("the next push found %d bytes", report.Resumed)
			}
		})
	}
}

// TestWatchOnceInterrupted is not done, so it must not say that it is.
func TestWatchOnceInterrupted(t *testing.T) {
	t.Parallel()
	remote, home := testenv.FileRemote(t), t.TempDir()
	large().WriteCache(t, filepath.Join(home, "hub"))
	w := watchCache(t, remote, home, "--once", "-v", "--bwlimit=4MB")
	for w.log(t, "at work").Kind != "item_started" {
	}
	w.signal(t, syscall.SIGTERM)
	if status := w.end(t); status.ExitStatus() != 143 {
		t.Errorf("it ended with %v:\n%s", status, &w.stderr)
	}
}

// TestWatchIsAlone on a cache: a second one ends at once and says who is there.
func TestWatchIsAlone(t *testing.T) {
	t.Parallel()
	remote, home, other := testenv.FileRemote(t), t.TempDir(), t.TempDir()
	for _, dir := range []string{home, other} {
		testenv.Mkdir(t, filepath.Join(dir, "hub"))
	}
	w := watchCache(t, remote, home, "--metrics-addr=127.0.0.1:0")
	address := w.log(t, "serving metrics").Address
	second := remote.TrySync(t, home, "watch")
	if second.Code != 8 || !strings.Contains(second.Stderr, fmt.Sprintf("process %d on ", w.cmd.Process.Pid)) || !strings.Contains(second.Stderr, "hint: stop it, or watch another cache") {
		t.Errorf("the second: %s", second)
	}
	if taken := remote.TrySync(t, other, "watch", "--metrics-addr", address); taken.Code != 2 || !strings.Contains(taken.Stderr, "--metrics-addr") {
		t.Errorf("with the same address: %s", taken)
	}
	remote.Sync(t, home, "prune") // That is another lock.
	w.signal(t, os.Interrupt)
	if status := w.end(t); status.ExitStatus() != 0 {
		t.Errorf("it ended with %v:\n%s", status, &w.stderr)
	}
	remote.Sync(t, home, "watch", "--once")
}

// TestWatchTellsTheServiceManager plays systemd.
func TestWatchTellsTheServiceManager(t *testing.T) {
	t.Parallel()
	remote, home := testenv.FileRemote(t), t.TempDir()
	dir, err := os.MkdirTemp("", "notify") //nolint:usetesting // The path of a socket must be short.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "socket")
	socket, err := new(net.ListenConfig).ListenPacket(t.Context(), "unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	hear := func(want string) {
		t.Helper()
		buf := make([]byte, 4096)
		for {
			n, _, err := socket.ReadFrom(buf)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(string(buf[:n]), want) {
				return
			}
		}
	}
	named("org/name").WriteCache(t, filepath.Join(home, "hub"))
	remote.Env = append(remote.Env, "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=100000")
	w := watchCache(t, remote, home)
	hear("STATUS=looking at the cache")
	hear("READY=1")
	hear("STATUS=looking at models--org--name")
	hear("STATUS=watching ")
	hear("WATCHDOG=1")
	hear("WATCHDOG=1")
	w.signal(t, syscall.SIGHUP)
	hear("RELOADING=1")
	hear("READY=1")
	w.signal(t, syscall.SIGTERM)
	hear("STOPPING=1")
	if status := w.end(t); status.ExitStatus() != 0 {
		t.Errorf("it ended with %v:\n%s", status, &w.stderr)
	}
}

// TestWatchPrunes keeps a budget: a detached revision is evicted when something
// new is pushed.
func TestWatchPrunes(t *testing.T) {
	t.Parallel()
	remote, home := testenv.FileRemote(t), t.TempDir()
	hub, file := filepath.Join(home, "hub"), filepath.Join(t.TempDir(), "config.yaml")
	old, head := named("org/old"), named("org/old")
	head.Commit, head.Files = testenv.Commit("org/old, newer"), []testenv.Content{{Path: "config.json", Data: []byte("{}")}}
	old.Refs = nil
	head.WriteCache(t, hub)
	old.WriteCache(t, hub)
	if out, err := exec.CommandContext(t.Context(), "find", hub, "-exec", "touch", "-h", "-t", "202001010000", "{}", "+").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	testenv.WriteFile(t, file, []byte("cache:\n  max_local_gb: 0.0004\n"))
	w := watchCache(t, remote, home, "--config", file, "--prune")
	w.log(t, "pushed")
	fresh := named("org/fresh")
	fresh.WriteCache(t, hub)
	w.log(t, "evicted")
	for !w.said(`"msg":"pushed","repo":"org/fresh"`) { // Which of both came first is left open.
		w.log(t, "pushed")
	}
	w.stop(t)
	if _, err := os.Stat(filepath.Join(hub, old.Folder(), "snapshots", old.Commit)); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	head.CompareFiles(t, hub, "config.json")
	fresh.Compare(t, hub)
}
