// Package raw moves bytes to and from an S3 server by as few requests as it takes
// and with nothing around them: no hashing, no scan, no manifest, no file at the
// end of a download. No client can be faster, on the same machine and server.
package raw

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/minio/minio-go/v7/pkg/signer"
	"golang.org/x/sync/errgroup"
)

// Signer signs a request.
type Signer struct{ AccessKey, SecretKey, Region string }

type raw struct {
	Signer

	base   string // http://host/bucket/
	client *http.Client
	conns  int
	part   int64
}

// Run carries out args[0] on the files of a folder, which are named like their
// objects: get and put move them, sha256 reads and hashes them.
func Run(ctx context.Context, keys Signer, args []string) error {
	set := flag.NewFlagSet("raw", flag.ContinueOnError)
	endpoint := set.String("endpoint", "", "")
	bucket := set.String("bucket", "", "")
	conns := set.Int("conns", 8, "")
	part := set.Int64("part", 32<<20, "")
	if err := set.Parse(args[1:]); err != nil {
		return err //nolint:wrapcheck // It names the flag.
	}
	r := &raw{Signer: keys, base: *endpoint + "/" + *bucket + "/", conns: *conns, part: *part}
	r.client = &http.Client{Transport: &http.Transport{
		DialContext: (&net.Dialer{}).DialContext, MaxIdleConnsPerHost: r.conns, DisableCompression: true,
		WriteBufferSize: 128 << 10, ReadBufferSize: 128 << 10,
	}}
	entries, err := os.ReadDir(set.Arg(0))
	if err != nil {
		return err //nolint:wrapcheck // It names the folder.
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.conns)
	var finish []func(context.Context) error
	for _, entry := range entries {
		path := filepath.Join(set.Arg(0), entry.Name())
		info, infoErr := entry.Info()
		if infoErr != nil {
			return infoErr //nolint:wrapcheck // It names the file.
		}
		switch {
		case args[0] == "sha256":
			group.Go(func() error { return hashFile(path) })
		case args[0] == "get":
			for at := int64(0); at < info.Size(); at += r.part {
				group.Go(func() error { return r.get(ctx, entry.Name(), at, min(r.part, info.Size()-at)) })
			}
		case info.Size() <= r.part:
			group.Go(func() error { return r.put(ctx, path, entry.Name()) })
		default:
			last, putErr := r.multipart(ctx, group, path, info.Size())
			if putErr != nil {
				return errors.Join(putErr, group.Wait())
			}
			finish = append(finish, last)
		}
	}
	if err = group.Wait(); err != nil {
		return err //nolint:wrapcheck // It names the request.
	}
	for _, last := range finish {
		if err = last(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	return nil
}

func hashFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err //nolint:wrapcheck // It names the file.
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{sha256.New()}, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return errors.Join(err, f.Close())
}

func (r *raw) get(ctx context.Context, key string, at, size int64) error {
	header := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", at, at+size-1)}}
	_, err := r.do(ctx, request{method: http.MethodGet, key: key, header: header, want: size})
	return err
}

func (r *raw) put(ctx context.Context, path, key string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err //nolint:wrapcheck // It names the file.
	}
	_, err = r.do(ctx, request{method: http.MethodPut, key: key, body: bytes.NewReader(data), size: int64(len(data))})
	return err
}

// multipart starts the upload of a large file and gives its parts to group. Call
// finish when the group is done.
func (r *raw) multipart(ctx context.Context, group *errgroup.Group, path string, size int64) (finish func(context.Context) error, err error) {
	key := filepath.Base(path)
	var begun struct {
		UploadID string `xml:"UploadId"`
	}
	answer, err := r.do(ctx, request{method: http.MethodPost, key: key, query: "?uploads="})
	if err != nil {
		return nil, err
	}
	if err = xml.Unmarshal(answer.body, &begun); err != nil {
		return nil, fmt.Errorf("starting the upload of %s: %w", key, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err //nolint:wrapcheck // It names the file.
	}
	type part struct {
		PartNumber int
		ETag       string
	}
	parts := make([]part, (size+r.part-1)/r.part)
	for i := range parts {
		at := int64(i) * r.part
		n := min(r.part, size-at)
		group.Go(func() error {
			query := fmt.Sprintf("?partNumber=%d&uploadId=%s", i+1, begun.UploadID)
			done, putErr := r.do(ctx, request{method: http.MethodPut, key: key, query: query, body: io.NewSectionReader(f, at, n), size: n})
			parts[i] = part{i + 1, done.header.Get("ETag")}
			return putErr
		})
	}
	return func(ctx context.Context) error {
		list, marshalErr := xml.Marshal(struct {
			XMLName xml.Name `xml:"CompleteMultipartUpload"`
			Part    []part
		}{Part: parts})
		if marshalErr != nil {
			return errors.Join(marshalErr, f.Close())
		}
		_, doErr := r.do(ctx, request{
			method: http.MethodPost, key: key, query: "?uploadId=" + begun.UploadID, body: bytes.NewReader(list), size: int64(len(list)),
		})
		return errors.Join(doErr, f.Close())
	}, nil
}

type request struct {
	method, key, query string
	header             http.Header
	body               io.Reader
	size               int64 // Of the body.
	want               int64 // Size of the answer, which is thrown away; 0 to keep it.
}

type answer struct {
	header http.Header
	body   []byte
}

func (r *raw) do(ctx context.Context, q request) (got answer, err error) {
	req, err := http.NewRequestWithContext(ctx, q.method, r.base+"blobs/"+q.key+q.query, q.body)
	if err != nil {
		return answer{}, fmt.Errorf("%s %s: %w", q.method, q.key, err)
	}
	maps.Copy(req.Header, q.header)
	req.ContentLength = q.size
	if q.size > 0 {
		req.Body = io.NopCloser(q.body) // A file is read by its descriptor's owner.
	}
	req.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	response, err := r.client.Do(signer.SignV4(*req, r.AccessKey, r.SecretKey, "", r.Region))
	if err != nil {
		return answer{}, fmt.Errorf("%s %s: %w", q.method, q.key, err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	got.header = response.Header
	if q.want > 0 && response.StatusCode/100 == 2 {
		n, copyErr := io.CopyBuffer(struct{ io.Writer }{io.Discard}, response.Body, make([]byte, min(q.want, 256<<10)))
		if copyErr == nil && n != q.want {
			copyErr = fmt.Errorf("%d bytes came of %d", n, q.want)
		}
		return got, copyErr
	}
	if got.body, err = io.ReadAll(response.Body); err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", q.method, q.key, response.Status, got.body)
	}
	return got, err
}
