package e2e_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/faultproxy"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// services are the servers of one script, each made when it is first asked for.
type services struct {
	proxy  *faultproxy.Proxy
	lies   atomic.Bool // About conditions.
	hub    *fakehub.Server
	answer atomic.Pointer[http.HandlerFunc] // In place of the Hub's.
}

// servicesKey finds them in a script.
type servicesKey struct{}

// faults puts a proxy between the script and the S3 server, and says what its
// requests meet from then on:
//
//	faults none
//	faults STATUS CODE [OP...]   an S3 error instead of an answer
//	faults flip [OP...]          a changed byte in each answer's body
//	faults clock DURATION        the Date of another time
//	faults skewed                requests refused for their time
//	faults lies                  conditions on writes are not looked at
//	faults noconditions          writes with conditions are refused
//	faults tls                   the server has a certificate that nobody knows
//
// OP is an operation of package faultproxy, such as get, head, put or list; all
// if none is given.
func faults(t *testing.T) func(*testscript.TestScript, bool, []string) {
	t.Helper()
	return func(ts *testscript.TestScript, neg bool, args []string) {
		usage(ts, !neg && len(args) > 0, "faults none | STATUS CODE [OP...] | flip [OP...] | clock DURATION | skewed | lies | noconditions | tls")
		s := ts.Value(servicesKey{}).(*services) //nolint:forcetypeassert // Setup has put it there.
		if s.proxy == nil {
			s.proxy = faultproxy.New(t, server.Endpoint)
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if s.lies.Load() && r.Header.Get("If-None-Match") != "" {
					w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
					return // As if it had been written, whatever was there.
				}
				s.proxy.ServeHTTP(w, r)
			}))
			ts.Defer(web.Close)
			ts.Setenv("B2_ENDPOINT", web.URL)
		}
		var fault *faultproxy.Fault
		ops := args[1:]
		s.lies.Store(args[0] == "lies")
		switch args[0] {
		case "none", "lies":
		case "noconditions":
			fault = faultproxy.NoConditions().Only((*faultproxy.Request).Conditional)
		case "tls":
			web := httptest.NewUnstartedServer(s.proxy)
			web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // It says that the certificate is refused.
			web.StartTLS()
			ts.Defer(web.Close)
			ts.Setenv("B2_ENDPOINT", web.URL)
		case "flip":
			fault = faultproxy.Flip()
		case "skewed":
			fault = faultproxy.Skewed(time.Hour)
		case "clock":
			usage(ts, len(args) == 2, "faults clock DURATION")
			by, err := time.ParseDuration(args[1])
			ts.Check(err)
			fault, ops = faultproxy.OtherTime(by), nil
		default:
			usage(ts, len(args) > 1, "faults STATUS CODE [OP...]")
			status, err := strconv.Atoi(args[0])
			ts.Check(err)
			fault, ops = faultproxy.Refuse(status, args[1], "It is refused by the test."), args[2:]
		}
		s.proxy.Use(func(r *faultproxy.Request) *faultproxy.Fault {
			if slices.Contains(ops, string(r.Op)) {
				return fault
			}
			if len(ops) > 0 {
				return nil
			}
			return fault
		})
	}
}

// hub is a Hub of the script's own, to which HF_ENDPOINT leads:
//
//	hub ok [REPO]                 it answers, and has the repository of mkcache
//	hub STATUS [NAME=VALUE...]    it answers everything so, with these headers
//	hub nonsense                  it answers with what is no answer of a Hub's
func fakeHub(t *testing.T) func(*testscript.TestScript, bool, []string) {
	t.Helper()
	return func(ts *testscript.TestScript, neg bool, args []string) {
		usage(ts, !neg && len(args) > 0, "hub ok [REPO] | STATUS [NAME=VALUE...] | nonsense")
		s := ts.Value(servicesKey{}).(*services) //nolint:forcetypeassert // Setup has put it there.
		if s.hub == nil {
			s.hub = fakehub.New()
			s.hub.Intercept = func(*http.Request) http.Handler {
				if h := s.answer.Load(); h != nil {
					return *h
				}
				return nil
			}
			web := httptest.NewServer(s.hub)
			ts.Defer(web.Close)
			ts.Setenv("HF_ENDPOINT", web.URL)
		}
		var answer http.HandlerFunc
		switch args[0] {
		case "ok":
			s.answer.Store(nil)
			if len(args) > 1 {
				r := revision(args[1])
				ts.Setenv("COMMIT", hubCommit(s.hub, r))
			}
			return
		case "nonsense":
			answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>welcome</html>")) }
		default:
			status, err := strconv.Atoi(args[0])
			ts.Check(err)
			answer = func(w http.ResponseWriter, _ *http.Request) {
				for _, header := range args[1:] {
					name, value, _ := strings.Cut(header, "=")
					w.Header().Set(name, value)
				}
				w.WriteHeader(status)
			}
		}
		s.answer.Store(&answer)
	}
}

func hubCommit(hub *fakehub.Server, r testenv.Revision) string {
	files := make([]fakehub.File, 0, len(r.Files))
	for _, f := range r.Files {
		if f.LFS {
			files = append(files, fakehub.LFS(f.Path, f.Data))
		} else {
			files = append(files, fakehub.Git(f.Path, f.Data))
		}
	}
	return hub.Repo(fakehub.Model, r.Repo).Commit("main", files...).ID()
}
