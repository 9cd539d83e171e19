// Package ui is how things look on a terminal.
//
// The rules, for everything that the program prints:
//
//   - Results go to standard output. All else, progress, notes, warnings, hints and errors, goes to standard error, so that a result can be piped.
//   - Sizes are decimal and have one decimal place and the letter K, M, G or T, as the hf command prints them: "1.2G". Below 1000 they are plain bytes: "532".
//   - Times of the past are relative: "2 days ago". Durations have two units at most: "1m 5s".
//   - Bars are drawn only on a terminal. Elsewhere there is one line every few seconds, and only when something moved.
//   - Text that others wrote, such as file names and the messages of servers, goes through [Clean] before a terminal sees it.
//   - Tables are plain text with capitals as headers, readable without colour.
//
// Nothing here asks for the time or looks for an output: both are handed in.
package ui
