package engine

import "testing"

func TestWantedETag(t *testing.T) {
	const digest = "d41d8cd98f00b204e9800998ecf8427e"
	for _, test := range []struct {
		name string
		size int64
		etag string
		part int64
		none bool
	}{
		{name: "one request", size: 5, etag: digest},
		{name: "our parts", size: 40 << 20, etag: digest + "-3", part: 16 << 20},
		{name: "parts of 0.1.0", size: 40 << 20, etag: digest + "-5", part: 8 << 20},
		{name: "other parts", size: 40 << 20, etag: digest + "-4", none: true},
		{name: "no count", size: 40 << 20, etag: digest + "-x", none: true},
		{name: "no digest", size: 5, etag: "18a3f-5", none: true},
		{name: "nothing", size: 5, etag: "", none: true},
		{name: "a longer digest", size: 5, etag: digest + digest, none: true},
		{name: "an empty object in parts", size: 0, etag: digest + "-1", none: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := wantedETag(test.size, test.etag)
			if (got == nil) != test.none || got != nil && (got.partSize != test.part || got.etag != test.etag) {
				t.Errorf("got %+v", got)
			}
		})
	}
}
