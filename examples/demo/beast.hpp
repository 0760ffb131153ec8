// Boost.Beast's parsers, which get their input from memory. The demo uses no stream of Beast's and
// nothing of Asio's.
#pragma once

// Beast 1.81 asserts that it has at least 5 bytes when it parses the last chunk again
// (basic_parser.ipp, parse_chunk_header). A peer that sends "0\r\n" and then "\r" breaks that. The
// code after the assertion does not need it, so a debug build must not abort there.
#define BOOST_DISABLE_ASSERTS

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
