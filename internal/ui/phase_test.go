package ui

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
)

func phased(text string) event.Event { return event.Event{Kind: event.Phase, Text: text} }

// TestPhaseLines says what takes long, once, and nothing of what does not.
func TestPhaseLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out locked
		p := NewProgress(&out, Lines, time.Now)
		wait := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		p.Event(phased("quick"))
		wait(999 * time.Millisecond)
		p.Event(phased("scanning\x1b"))
		wait(time.Hour)
		p.Event(phased("quick again"))
		wait(999 * time.Millisecond)
		p.Event(event.Event{Kind: event.TransferStarted})
		wait(time.Hour)
		p.Event(phased("beside a transfer"))
		wait(time.Hour)
		p.Event(event.Event{Kind: event.TransferDone})
		p.Event(phased("ended"))
		p.Event(phased(""))
		wait(time.Hour)
		p.Event(phased("closed"))
		p.Close()
		p.Event(phased("after the end"))
		wait(time.Hour)
		if diff := cmp.Diff("scanning\\x1b\n", out.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestPhaseBars draws what takes long as a line that goes again.
func TestPhaseBars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out locked
		p := NewProgress(&out, Bars, time.Now)
		start := time.Now()
		p.Event(phased("scanning"))
		time.Sleep(999 * time.Millisecond)
		synctest.Wait()
		if got := out.String(); got != "" {
			t.Errorf("it wrote %q", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := out.String(); !strings.Contains(got, "scanning, 2s") {
			t.Errorf("after %v it wrote %q", time.Since(start), got)
		}
		p.Say("a line\x1b")
		p.Event(phased("asking")) // at once, in the place of the other
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if got := screen(out.String()); len(got) < 2 || got[0] != `a line\x1b` || got[1] != "asking, 0s" {
			t.Errorf("the screen is %q", got)
		}
		p.Event(phased(""))
		if diff := cmp.Diff([]string{`a line\x1b`, ""}, screen(out.String())); diff != "" {
			t.Errorf("the screen (-want +got):\n%s", diff)
		}
		p.Close()
	})
}

func TestColumns(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "model": 5, "größe": 5, "e\u0301": 1, "模型": 4, "モデル": 6, "모델": 4, "🤗": 2, "ﬀ": 1, "…": 1, "a\u200db": 2, "！": 2, "𠮷": 2, "⌚": 2,
	} {
		if got := columns(text); got != want {
			t.Errorf("%q takes %d columns, want %d", text, got, want)
		}
	}
}

func TestClip(t *testing.T) {
	for _, text := range []string{"", "model", "模型/文件名.safetensors", "e\u0301e\u0301e\u0301e\u0301e\u0301", "a模b型c"} {
		for width := 1; width < 30; width++ {
			for name, clip := range map[string]func(string, int) string{"clip": clip, "clipLeft": clipLeft} {
				got := clip(text, width)
				switch {
				case columns(got) > width:
					t.Errorf("%s(%q, %d) = %q, which is %d wide", name, text, width, got, columns(got))
				case columns(text) <= width && got != text:
					t.Errorf("%s(%q, %d) = %q, although it fits", name, text, width, got)
				case columns(text) > width && columns(got) < width-2:
					t.Errorf("%s(%q, %d) = %q, which wastes room", name, text, width, got)
				}
			}
		}
	}
}
