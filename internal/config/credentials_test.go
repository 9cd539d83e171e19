package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
)

func TestResolveCredentials(t *testing.T) {
	for _, c := range []struct {
		name     string
		env      vars
		want     config.Credentials
		warnings []string
	}{
		{"nothing", nil, config.Credentials{Origin: "aws_chain", Chain: true}, nil},
		{
			"B2 before AWS, without its token",
			vars{"B2_APPLICATION_KEY_ID": "bi", "B2_APPLICATION_KEY": "bk\r\n", "AWS_ACCESS_KEY_ID": "ai", "AWS_SECRET_ACCESS_KEY": "ak", "AWS_SESSION_TOKEN": "at"},
			config.Credentials{AccessKey: "bi", SecretKey: "bk", Origin: "b2_env"},
			nil,
		},
		{
			"AWS",
			vars{"AWS_ACCESS_KEY_ID": "ai", "AWS_SECRET_ACCESS_KEY": "ak", "AWS_SESSION_TOKEN": "at"},
			config.Credentials{AccessKey: "ai", SecretKey: "ak", SessionToken: "at", Origin: "aws_env"},
			nil,
		},
		{
			"half of B2 is not completed from AWS",
			vars{"B2_APPLICATION_KEY_ID": "bi", "B2_APPLICATION_KEY": "", "AWS_ACCESS_KEY_ID": "ai", "AWS_SECRET_ACCESS_KEY": "ak"},
			config.Credentials{AccessKey: "ai", SecretKey: "ak", Origin: "aws_env"},
			[]string{"B2_APPLICATION_KEY_ID is set but B2_APPLICATION_KEY is not: skipped"},
		},
		{
			"two halves are no whole",
			vars{"B2_APPLICATION_KEY": "bk", "AWS_ACCESS_KEY_ID": "ai"},
			config.Credentials{Origin: "aws_chain", Chain: true},
			[]string{
				"B2_APPLICATION_KEY is set but B2_APPLICATION_KEY_ID is not: skipped",
				"AWS_ACCESS_KEY_ID is set but AWS_SECRET_ACCESS_KEY is not: skipped",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, warnings := config.ResolveCredentials(c.env.lookup, nil)
			if got != c.want {
				// Not by printing: the type does not show what differs.
				t.Errorf("got %q %q %q %s %v, want %q %q %q %s %v", got.AccessKey, got.SecretKey, got.SessionToken, string(got.Origin), got.Chain,
					c.want.AccessKey, c.want.SecretKey, c.want.SessionToken, string(c.want.Origin), c.want.Chain)
			}
			if diff := cmp.Diff(c.warnings, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// fmt and json would also find another of the methods: none of them may go.
var (
	_ fmt.Formatter  = config.Credentials{}
	_ fmt.Stringer   = config.Credentials{}
	_ fmt.GoStringer = config.Credentials{}
	_ slog.LogValuer = config.Credentials{}
	_ json.Marshaler = config.Credentials{}
)

func TestCredentialsDoNotShow(t *testing.T) {
	c := config.Credentials{AccessKey: "visible-id", SecretKey: "visible-secret", SessionToken: "visible-token", Origin: "b2_env"}
	nested := struct {
		Name string
		C    config.Credentials
		P    *config.Credentials
	}{"x", c, &c}

	shown := map[string]string{}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3v", "%t", "%T and %[1]v"} {
		shown[format] = fmt.Sprintf(format, c) + fmt.Sprintf(format, &c) + fmt.Sprintf(format, nested) + fmt.Sprintf(format, []config.Credentials{c}) +
			fmt.Sprintf(format, map[string]any{"k": c})
	}
	shown["Errorf"] = fmt.Errorf("failed with %v", c).Error()
	text, err := json.Marshal(map[string]any{"value": c, "pointer": &c, "nested": nested, "map": map[config.Credentials]int{c: 1}})
	if err != nil {
		t.Fatal(err)
	}
	shown["json"] = string(text)
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("message", "value", c, "pointer", &c, "nested", nested, "group", slog.GroupValue(slog.Any("c", c)))
	}
	shown["slog"] = log.String()
	for how, s := range shown {
		if strings.Contains(s, "visible") || strings.Contains(s, "76697369626c65") || strings.Contains(s, "76697369626C65") {
			t.Errorf("%s shows a key: %s", how, s)
		}
		if !strings.Contains(s, "b2_env") {
			t.Errorf("%s does not show the origin: %s", how, s)
		}
	}
}
