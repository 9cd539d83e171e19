package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand writes the man pages. It is for whoever packages the program, and so hidden.
func (a *app) manCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:         "man",
		Short:       "Write the manual pages",
		Hidden:      true,
		Annotations: map[string]string{annotationConfig: configNone},
		Long: `Man writes one page in the format of man(1) for each command into a folder. The pages of one version are the same,
byte for byte.

EXIT STATUS
  0 written; 2 no such folder.`,
		Example: `  hf-cache-sync man --dir share/man/man1`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if info, err := os.Stat(dir); err != nil || !info.IsDir() {
				return usagef("man: --dir %q is not a folder", dir)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // it holds the day
			// A fixed date: pages that differ from build to build cannot be compared.
			epoch := time.Unix(0, 0).UTC()
			if err := doc.GenManTree(root, &doc.GenManHeader{Section: "1", Date: &epoch, Source: "hf-cache-sync", Manual: "hf-cache-sync"}, dir); err != nil {
				return fmt.Errorf("man: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "the folder to write to")
	return cmd
}
