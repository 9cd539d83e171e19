package daemon_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/daemon"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServe(t *testing.T) {
	m := daemon.NewMetrics("test_", "1.2.3", func() daemon.Watched { return daemon.Watched{Folders: 7, Polling: true, OK: true} })
	m.PushedBytes.Add(42)
	m.Failures.WithLabelValues("denied").Inc()
	l, err := daemon.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := daemon.Listen(t.Context(), l.Addr().String()); err == nil {
		t.Error("an address can be taken twice")
	}
	var sick atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- daemon.Serve(ctx, l, m, func() daemon.Health {
			if sick.Load() {
				return daemon.Health{Reason: "the bucket does not answer"}
			}
			return daemon.Health{OK: true}
		})
	}()
	url := "http://" + l.Addr().String()
	status, text := get(t, url+"/metrics")
	for _, want := range []string{
		"test_pushed_bytes_total 42\n", `test_failures_total{kind="denied"} 1`, "test_folders_watched 7\n", "test_polling 1\n", "test_up 1\n", `test_build_info{version="1.2.3"} 1`,
		"process_resident_memory_bytes",
	} {
		if status != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("status %d, and no %q in:\n%s", status, want, text)
		}
	}
	for _, is := range []bool{false, true} {
		sick.Store(is)
		status, text := get(t, url+"/healthz")
		var h daemon.Health
		if err := json.Unmarshal([]byte(text), &h); err != nil || h.OK == is || (status == http.StatusOK) == is || (h.Reason != "") != is {
			t.Errorf("%d %s, %v", status, text, err)
		}
	}
	if status, _ := get(t, url+"/other"); status != http.StatusNotFound {
		t.Errorf("status %d", status)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestNotifier(t *testing.T) {
	var n daemon.Notifier
	n.Ready() // nobody listens, which is no reason to fail
	if d := n.Interval(); d != 0 {
		t.Errorf("without a manager: %s", d)
	}
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := new(net.ListenConfig).ListenPacket(t.Context(), "unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close() //nolint:errcheck // only read from
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "30000000")
	if d := n.Interval(); d != 15*time.Second {
		t.Errorf("it wants to hear something every %s", d)
	}
	for want, say := range map[string]func(){
		"READY=1": n.Ready, "STOPPING=1": n.Stopping, "RELOADING=1": n.Reloading, "WATCHDOG=1": n.Alive, "STATUS=idle": func() { n.Status("idle") },
	} {
		say()
		buf := make([]byte, 100)
		size, _, err := socket.ReadFrom(buf)
		if got := string(buf[:size]); err != nil || got != want {
			t.Errorf("it says %q, %v; want %q", got, err, want)
		}
	}
}
