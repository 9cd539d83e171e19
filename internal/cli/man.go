package cli

import (
	"fmt"
	"os"
	"strconv"
	"strings"
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
byte for byte. Their date is that of SOURCE_DATE_EPOCH, if it is set.

EXIT STATUS
  0 written; 2 no such folder; 9 no permission, no space.`,
		Example: `  hf-cache-sync man --dir share/man/man1`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if info, err := os.Stat(dir); err != nil || !info.IsDir() {
				return usagef("man: --dir %q is not a folder", dir)
			}
			date, err := a.pageDate()
			if err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // it holds the day
			pageTexts(root)
			header := &doc.GenManHeader{Section: "1", Date: &date, Source: "hf-cache-sync " + version(), Manual: "hf-cache-sync"}
			if err := doc.GenManTree(root, header, dir); err != nil {
				return fmt.Errorf("man: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "the folder to write to")
	return cmd
}

// pageDate is the date on the pages. It is not that of the day: pages that differ from build to build cannot be compared
// (https://reproducible-builds.org/docs/source-date-epoch/).
func (a *app) pageDate() (time.Time, error) {
	text, ok := a.Env("SOURCE_DATE_EPOCH")
	if !ok || text == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, usagef("man: SOURCE_DATE_EPOCH=%q is not a number of seconds", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// pageTexts makes of what --help says, which is laid out for a screen, the Markdown that pages are made from: a section of its own for the exit codes, and
// tables that stay tables.
func pageTexts(cmd *cobra.Command) {
	paragraphs := strings.Split(cmd.Long, "\n\n")
	for i, text := range paragraphs {
		switch codes, found := strings.CutPrefix(text, "EXIT STATUS\n"); {
		case found:
			paragraphs[i] = "# EXIT STATUS\n" + strings.TrimSpace(strings.ReplaceAll("\n"+codes, "\n  ", "\n"))
		case strings.HasPrefix(text, "  "):
			paragraphs[i] = "```\n" + text + "\n```"
		}
	}
	cmd.Long = strings.Join(paragraphs, "\n\n")
	for _, sub := range cmd.Commands() {
		pageTexts(sub)
	}
}
