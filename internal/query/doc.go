// Package query is the language of "hf cache ls": which rows to show (--filter), in which order (--sort), and how many (--limit).
//
// A filter is a key, an operator and a value, as in "size>1gb", "accessed<=2w", "modified>3mo", "type=dataset" or "refs=main"; several of them must all hold.
// Sizes are decimal: 1kb is 1000 bytes. A time is compared by its age: "accessed>30d" are the rows that nobody has used for more than 30 days. A month has 30 days and a
// year 365, as for the hf command. What a row does not know, such as when an object in a bucket was last read, satisfies no filter.
//
// Everything here is pure: the present is handed in.
package query
