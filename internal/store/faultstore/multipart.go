package faultstore

import (
	"context"
	"io"
	"iter"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// multipart is a Store above one that takes objects in parts.
type multipart struct {
	*Store
	parts store.Multipart
}

// StartUpload begins an upload.
func (m *multipart) StartUpload(ctx context.Context, key string, o store.PutOptions) (store.Upload, error) {
	return run(ctx, m.script, Call{Op: "start upload", Key: key}, func() (store.Upload, error) { return m.parts.StartUpload(ctx, key, o) })
}

// PutPart stores one part.
func (m *multipart) PutPart(ctx context.Context, u store.Upload, number int, body *io.SectionReader) (store.Part, error) {
	return run(ctx, m.script, Call{Op: "put part", Key: u.Key, Number: number}, func() (store.Part, error) {
		return m.parts.PutPart(ctx, u, number, body)
	})
}

// Complete makes the object of the parts.
func (m *multipart) Complete(ctx context.Context, u store.Upload, parts []store.Part) (store.Info, error) {
	return run(ctx, m.script, Call{Op: "complete upload", Key: u.Key}, func() (store.Info, error) { return m.parts.Complete(ctx, u, parts) })
}

// Abort throws the parts away.
func (m *multipart) Abort(ctx context.Context, u store.Upload) error {
	_, err := run(ctx, m.script, Call{Op: "abort upload", Key: u.Key}, func() (struct{}, error) { return struct{}{}, m.parts.Abort(ctx, u) })
	return err
}

// Uploads yields the unfinished uploads whose keys start with prefix.
func (m *multipart) Uploads(ctx context.Context, prefix string) iter.Seq2[store.Upload, error] {
	return list(ctx, m.script, Call{Op: "list uploads", Key: prefix}, m.parts.Uploads(ctx, prefix))
}

// Parts lists what an upload has.
func (m *multipart) Parts(ctx context.Context, u store.Upload) ([]store.Part, error) {
	return run(ctx, m.script, Call{Op: "list parts", Key: u.Key}, func() ([]store.Part, error) { return m.parts.Parts(ctx, u) })
}
