// Command hf-cache-sync shares a Hugging Face Hub cache between machines through a bucket.
package main

import (
	"os"

	"github.com/hf-cache-sync/hf-cache-sync/internal/cli"
)

func main() { os.Exit(cli.Main(cli.System())) }
