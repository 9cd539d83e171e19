package oracle_test

import (
	"os"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// server is the S3 server of all tests in this package; TestMain sets it.
var server *testenv.S3

func TestMain(m *testing.M) {
	os.Exit(testenv.MainWithS3(m, func(s *testenv.S3) { server = s }))
}
