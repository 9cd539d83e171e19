package hubclient_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hubclient"
)

func TestAccount(t *testing.T) {
	for _, test := range []struct {
		what   string
		token  string
		status int
		body   string
		name   string
		err    error
	}{
		{"a token that the Hub knows", secret, http.StatusOK, `{"type": "user", "name": "someone"}`, "someone", nil},
		{"no token", "", http.StatusUnauthorized, `{"error": "Invalid username or password."}`, "", nil},
		{"a token that it does not know", secret, http.StatusUnauthorized, `{"error": "Invalid username or password."}`, "", hubclient.ErrBadToken},
		{"a token for other things", secret, http.StatusForbidden, "", "", nil},
		{"a mirror", secret, http.StatusNotFound, "<html>", "", nil},
		{"a web page", secret, http.StatusOK, "<html>", "", hubclient.ErrInvalid},
		{"a bad day", secret, http.StatusBadGateway, "", "", hubclient.ErrUnavailable},
	} {
		t.Run(test.what, func(t *testing.T) {
			c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/whoami-v2" {
					t.Errorf("asked for %s", r.URL.Path)
				}
				w.WriteHeader(test.status)
				_, _ = fmt.Fprint(w, test.body)
			})
			c.Token, c.Tries = test.token, 1
			name, err := c.Account(t.Context())
			if name != test.name || !errors.Is(err, test.err) {
				t.Errorf("%q, %v; want %q, %v", name, err, test.name, test.err)
			}
		})
	}
}
