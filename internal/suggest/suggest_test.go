package suggest_test

import (
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/suggest"
)

func TestNearest(t *testing.T) {
	known := []string{"bucket", "region", "endpoint", "access_key", "secret_key", "mistralai/Mistral-7B-v0.1"}
	for word, want := range map[string]string{
		"buckett": "bucket", "BUCKET": "bucket", "bukcet": "bucket", "acces_key": "access_key", "end": "endpoint", "mistralai/mistral-7b": "mistralai/Mistral-7B-v0.1",
		"endpoint_url": "endpoint", "bucket-name": "bucket", "access_keys_of_it": "access_key",
		"colour": "", "": "", "x": "", "re": "", "key": "",
	} {
		got, ok := suggest.Nearest(word, known)
		if got != want || ok != (want != "") {
			t.Errorf("Nearest(%q) = %q, %v; want %q", word, got, ok, want)
		}
	}
	// Letters count, not bytes, and one or two letters begin nothing.
	for _, word := range []string{"éé", "region"} {
		if got, ok := suggest.Nearest(word, []string{"rf", "r", "re"}); ok {
			t.Errorf("Nearest(%q) = %q, which is nothing like it", word, got)
		}
	}
	if got, ok := suggest.Nearest("bucket", nil); ok {
		t.Errorf("found %q in nothing", got)
	}
}

func TestNearestOf(t *testing.T) {
	known := []string{"org/nome", "org/name", "org/name-large", "other/thing"}
	for most, want := range map[int]string{0: "", 1: "org/name", 2: "org/name org/name-large", 9: "org/name org/name-large org/nome"} {
		if got := strings.Join(suggest.NearestOf("org/nam", known, most), " "); got != want {
			t.Errorf("the nearest %d: %q, not %q", most, got, want)
		}
	}
}
