package config_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
)

func TestResolveHub(t *testing.T) {
	files := map[string]string{"/home/u/.cache/huggingface/token": "hf_default\n", "/hf/token": " hf_home ", "/other": "hf_other", "/odd": "hf_\x01"}
	read := func(path string) ([]byte, error) {
		if path == "/denied" {
			return nil, fs.ErrPermission
		}
		text, ok := files[path]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return []byte(text), nil
	}
	for name, test := range map[string]struct {
		env     vars
		want    config.Hub
		wantErr string
	}{
		"nothing":                  {vars{}, config.Hub{Endpoint: "https://huggingface.co", Token: "hf_default", TokenOrigin: "/home/u/.cache/huggingface/token"}, ""},
		"a mirror":                 {vars{"HF_ENDPOINT": "http://mirror:8080/hub//", "HF_TOKEN": "hf_a"}, config.Hub{Endpoint: "http://mirror:8080/hub", EndpointOrigin: "HF_ENDPOINT", Token: "hf_a", TokenOrigin: "HF_TOKEN"}, ""},
		"an empty endpoint":        {vars{"HF_ENDPOINT": "", "HF_TOKEN": "hf_a\n"}, config.Hub{Endpoint: "https://huggingface.co", Token: "hf_a", TokenOrigin: "HF_TOKEN"}, ""},
		"an old variable":          {vars{"HF_TOKEN": " ", "HUGGING_FACE_HUB_TOKEN": "hf_b"}, config.Hub{Endpoint: "https://huggingface.co", Token: "hf_b", TokenOrigin: "HUGGING_FACE_HUB_TOKEN"}, ""},
		"a file":                   {vars{"HF_TOKEN_PATH": "/other"}, config.Hub{Endpoint: "https://huggingface.co", Token: "hf_other", TokenOrigin: "/other"}, ""},
		"HF_HOME":                  {vars{"HF_HOME": "/hf", "HF_HUB_CACHE": "/elsewhere"}, config.Hub{Endpoint: "https://huggingface.co", Token: "hf_home", TokenOrigin: "/hf/token"}, ""},
		"no token anywhere":        {vars{"HF_HOME": "/none"}, config.Hub{Endpoint: "https://huggingface.co"}, ""},
		"not without being asked":  {vars{"HF_TOKEN": "hf_a", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}, config.Hub{Endpoint: "https://huggingface.co"}, ""},
		"offline":                  {vars{"HF_HUB_OFFLINE": "yes", "HF_HOME": "/none"}, config.Hub{Endpoint: "https://huggingface.co", Offline: true, OfflineOrigin: "HF_HUB_OFFLINE"}, ""},
		"offline by another name":  {vars{"TRANSFORMERS_OFFLINE": "1", "HF_HUB_OFFLINE": "", "HF_HOME": "/none"}, config.Hub{Endpoint: "https://huggingface.co", Offline: true, OfflineOrigin: "TRANSFORMERS_OFFLINE"}, ""},
		"online after all":         {vars{"TRANSFORMERS_OFFLINE": "1", "HF_HUB_OFFLINE": "0", "HF_HOME": "/none"}, config.Hub{Endpoint: "https://huggingface.co", OfflineOrigin: "HF_HUB_OFFLINE"}, ""},
		"no address":               {vars{"HF_ENDPOINT": "huggingface.co"}, config.Hub{}, "HF_ENDPOINT: it is no address"},
		"a password":               {vars{"HF_ENDPOINT": "https://u:secret@hub"}, config.Hub{}, "HF_ENDPOINT: it holds a user"},
		"a query":                  {vars{"HF_ENDPOINT": "https://hub?x=1"}, config.Hub{}, "HF_ENDPOINT: it has more"},
		"an odd token":             {vars{"HF_TOKEN_PATH": "/odd"}, config.Hub{}, "/odd: it holds a character"},
		"a file that is forbidden": {vars{"HF_TOKEN_PATH": "/denied"}, config.Hub{}, "the Hub's token: "},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := config.ResolveHub(test.env.lookup, "/home/u", read)
			if test.wantErr != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.wantErr) || strings.Contains(err.Error(), "secret") {
					t.Errorf("got %v", err)
				}
				return
			}
			if test.want.EndpointOrigin == "" {
				test.want.EndpointOrigin = config.Default
			}
			if test.want.OfflineOrigin == "" {
				test.want.OfflineOrigin = config.Default
			}
			if err != nil || got.Endpoint != test.want.Endpoint || got.EndpointOrigin != test.want.EndpointOrigin || got.Token != test.want.Token ||
				got.TokenOrigin != test.want.TokenOrigin || got.Offline != test.want.Offline || got.OfflineOrigin != test.want.OfflineOrigin {
				t.Errorf("got %s %s %q %s %v %s, %v", got.Endpoint, got.EndpointOrigin, got.Token, got.TokenOrigin, got.Offline, got.OfflineOrigin, err)
			}
			if text := fmt.Sprintf("%v %+v %#v %s", got, got, got, got); strings.Contains(text, "hf_") {
				t.Errorf("it prints its token: %s", text)
			}
		})
	}
	if _, err := config.ResolveHub(vars{"HF_TOKEN_PATH": "~other/token"}.lookup, "/home/u", func(string) ([]byte, error) { return nil, errors.New("read") }); err != nil {
		t.Error(err)
	}
}
