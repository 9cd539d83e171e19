package s3store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	minio "github.com/minio/minio-go/v7"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// fail makes a store error of what the library or the network said.
func (s *Store) fail(ctx context.Context, c *call, err error) error {
	if done, ok := errors.AsType[*store.Error](err); ok {
		return done
	}
	e := &store.Error{Op: c.op, Key: c.key}
	// An error of the context's can only be the caller's: a watch that cuts a connection says so itself.
	if cause := ctx.Err(); cause != nil {
		e.Err = cause
		return e
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // The URL says nothing that the key does not, and has a query.
	}
	if resp, ok := errors.AsType[minio.ErrorResponse](err); ok {
		s.explain(e, resp)
		c.mu.Lock()
		if c.page && errors.Is(e.Kind, store.ErrNoBucket) {
			// The library takes every 404 without S3's XML for a missing bucket. A web server says it in its own way.
			e.Kind, e.Code, e.Err = store.ErrWrongEndpoint, fmt.Sprint(resp.StatusCode), errors.New("the answer is a web page")
		}
		c.mu.Unlock()
	} else {
		e.Kind, e.Err = kindOf(err), err
	}
	if errors.Is(e.Kind, store.ErrUnavailable) {
		c.mu.Lock()
		e.RetryAfter = c.retryAfter
		c.mu.Unlock()
	}
	return e
}

// explain fills in what the service answered.
func (s *Store) explain(e *store.Error, resp minio.ErrorResponse) {
	e.Kind = kindOfCode(resp.Code)
	if e.Kind == nil {
		e.Kind = kindOfStatus(resp.StatusCode)
	}
	e.Code = resp.Code
	message := resp.Message
	// Without an answer that it understands, the library makes the status line the code and the page the message.
	if status := fmt.Sprint(resp.StatusCode); strings.HasPrefix(resp.Code, status) || resp.Code == "" {
		e.Code = status
		message = http.StatusText(resp.StatusCode)
	}
	if message == "" {
		message = resp.Error()
	}
	message = strings.TrimSuffix(strings.TrimSpace(s.secrets.Replace(message)), ".")
	switch {
	case resp.Code == minio.NoSuchBucket:
		message = fmt.Sprintf("there is no bucket %q", s.bucket)
	case errors.Is(e.Kind, store.ErrBadConfig) && resp.Region != "" && isRegionCode(resp.Code, resp.StatusCode):
		message = fmt.Sprintf("the bucket is in region %q: %s", resp.Region, message)
	case errors.Is(e.Kind, store.ErrBadConfig) && isRegionCode(resp.Code, resp.StatusCode):
		message = "the region or the endpoint is not the bucket's: " + message
	}
	e.Err = errors.New(message)
}

func isRegionCode(code string, status int) bool {
	switch code {
	case "PermanentRedirect", "TemporaryRedirect", "Redirect", minio.AuthorizationHeaderMalformed, minio.InvalidRegion,
		"IllegalLocationConstraintException":
		return true
	}
	return status >= http.StatusMovedPermanently && status < http.StatusBadRequest
}

// kindOfCode decides by S3's own words, which say more than the status. They are those of AWS (API reference, Error Responses) and of the
// services that have others.
func kindOfCode(code string) error {
	switch code {
	case minio.NoSuchKey, "NoSuchUpload", minio.NoSuchVersion, "NotFound":
		return store.ErrNotFound
	case minio.InvalidAccessKeyID, "XAdminUserNotFound", "InvalidAccessKey":
		return store.ErrUnknownKey
	case minio.SignatureDoesNotMatch:
		return store.ErrWrongSecret
	case minio.RequestTimeTooSkewed:
		return store.ErrClockSkew
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired":
		return store.ErrExpired
	case minio.AccessDenied, minio.AllAccessDisabled, "InvalidToken", "InvalidSecurity", "NotSignedUp", "AccountProblem",
		"UnauthorizedAccess", "Unauthorized", "Forbidden", "AccessForbidden":
		return store.ErrDenied
	case minio.NoSuchBucket, minio.InvalidBucketName:
		return store.ErrNoBucket
	case "PermanentRedirect", "TemporaryRedirect", "Redirect", minio.AuthorizationHeaderMalformed, minio.InvalidRegion,
		"IllegalLocationConstraintException":
		return store.ErrWrongRegion
	case minio.PreconditionFailed, "ConditionalRequestConflict":
		return store.ErrExists
	case minio.InvalidRange:
		return store.ErrBadRange
	case minio.NotImplemented, minio.MethodNotAllowed, "KeyTooLongError", "KeyTooLong",
		"ExistingObjectIsDirectory", "ObjectParentIsFile", "XMinioParentIsObject", "XMinioObjectExistsAsDirectory":
		return store.ErrUnsupported
	case minio.BadDigest, minio.XAmzContentSHA256Mismatch, "XAmzContentChecksumMismatch":
		return store.ErrBadDigest
	case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "StorageQuotaExceeded":
		return store.ErrNoSpace
	case minio.InternalError, "SlowDown", "SlowDownRead", "SlowDownWrite", "ServiceUnavailable", "RequestTimeout", "Busy", "Throttling",
		"ThrottlingException", "RequestThrottled", "RequestLimitExceeded", "TooManyRequests", "OperationAborted", "RequestTimedOut",
		minio.IncompleteBody:
		return store.ErrUnavailable
	}
	return nil
}

func kindOfStatus(status int) error {
	const clientClosed = 499 // nginx, when an upstream was slow.
	switch status {
	case http.StatusNotFound:
		return store.ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return store.ErrDenied
	case http.StatusPreconditionFailed:
		return store.ErrExists
	case http.StatusRequestedRangeNotSatisfiable:
		return store.ErrBadRange
	case http.StatusNotImplemented, http.StatusMethodNotAllowed:
		return store.ErrUnsupported
	case http.StatusInsufficientStorage:
		return store.ErrNoSpace
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, clientClosed:
		return store.ErrUnavailable
	}
	switch {
	case status >= http.StatusMovedPermanently && status < http.StatusBadRequest:
		return store.ErrWrongRegion
	case status >= http.StatusInternalServerError:
		return store.ErrUnavailable
	}
	return nil
}

// kindOf decides what is wrong with a conversation that did not end in an answer of S3's.
func kindOf(err error) error {
	var (
		stalled  *stallError
		closed   closedError
		body     *bodyError
		netErr   net.Error
		syntax   *xml.SyntaxError
		wrongXML xml.UnmarshalError
		certErr  *tls.CertificateVerificationError
		authErr  x509.UnknownAuthorityError
		hostErr  x509.HostnameError
		record   tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &body), errors.Is(err, context.Canceled):
		return nil
	case errors.Is(err, errNoCredentials):
		return store.ErrNoCredentials
	case errors.Is(err, errBadRedirect), errors.As(err, &certErr), errors.As(err, &authErr), errors.As(err, &hostErr):
		return store.ErrBadConfig
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch), errors.Is(err, errTooMuch), errors.Is(err, errNoEnd):
		return store.ErrWrongEndpoint
	case errors.As(err, &stalled), errors.As(err, &closed), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF),
		errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr), errors.Is(err, net.ErrClosed):
		return store.ErrUnavailable
	case errors.As(err, &syntax):
		// XML that breaks off was cut, and XML that is none came from something that does not speak S3.
		if strings.Contains(syntax.Msg, "unexpected EOF") {
			return store.ErrUnavailable
		}
		return store.ErrWrongEndpoint
	case errors.As(err, &wrongXML):
		return store.ErrWrongEndpoint
	case strings.HasPrefix(err.Error(), "net/http: "), strings.HasPrefix(err.Error(), "http: server closed"):
		// The HTTP client's own words for a broken conversation are no values.
		return store.ErrUnavailable
	}
	return nil
}

// bodyError is a failure of what is to be sent, not of the service: whatever it wraps, it is of no kind.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "read the body: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }
