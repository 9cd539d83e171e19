package manifest_test

import (
	"fmt"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// wide is a manifest of n files with the commit's listing.
func wide(n int) *manifest.Manifest {
	m := &manifest.Manifest{
		Repo: hub.Repo{Type: hub.Model, Name: "org/name"}, Commit: hub.Commit(fmt.Sprintf("%040x", 1)), Hub: &manifest.Hub{},
	}
	for i := range n {
		m.Files = append(m.Files, manifest.File{Path: hub.Path(fmt.Sprintf("folder/file-%06d.json", i)), Blob: hub.BlobID(fmt.Sprintf("%064x", i)), Size: int64(i)})
	}
	return m
}

func BenchmarkEncode(b *testing.B) {
	m := wide(1000)
	data, err := manifest.Encode(m)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := manifest.Encode(m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	data, err := manifest.Encode(wide(1000))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := manifest.Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}
