#include "json.h"

#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "failure.h"

namespace wavenet {
namespace {

constexpr int MAX_DEPTH = 32;             // of arrays and objects in each other; model files have four
constexpr std::size_t MAX_DIGITS = 4300;  // of an integer: Python reads no more
constexpr std::size_t MAX_SHOWN = 60;     // characters of a text in an error message

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20; }
bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Whether a text is UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_unicode(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
        const unsigned lead = static_cast<unsigned char>(text[i++]);
        if (lead < 0x80) continue;
        const int following = lead < 0xC2 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : lead < 0xF5 ? 3 : 0;
        if (!following || text.size() - i < std::size_t(following)) return false;
        const unsigned second = static_cast<unsigned char>(text[i]);
        if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) || (lead == 0xF0 && second < 0x90) ||
            (lead == 0xF4 && second > 0x8F))
            return false;
        for (int k = 0; k < following; ++k)
            if (!continues_character(text[i++])) return false;
    }
    return true;
}

void append_utf8(std::string& text, unsigned code) {
    if (code < 0x80) {
        text += char(code);
    } else if (code < 0x800) {
        text += char(0xC0 | code >> 6);
        text += char(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        text += char(0xE0 | code >> 12);
        text += char(0x80 | (code >> 6 & 0x3F));
        text += char(0x80 | (code & 0x3F));
    } else {
        text += char(0xF0 | code >> 18);
        text += char(0x80 | (code >> 12 & 0x3F));
        text += char(0x80 | (code >> 6 & 0x3F));
        text += char(0x80 | (code & 0x3F));
    }
}

// The bytes of the first character if it is a control character, or would break or reverse the line; 0 for others.
std::size_t hidden_bytes(std::string_view text) {
    const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
    if (byte(0) < 0x20 || byte(0) == 0x7F) return 1;
    if (byte(0) == 0xC2 && byte(1) >= 0x80 && byte(1) < 0xA0) return 2;  // U+0080 to U+009F
    if (byte(0) != 0xE2) return 0;
    if (byte(1) == 0x80 && byte(2) >= 0xA8 && byte(2) <= 0xAE) return 3;   // U+2028 to U+202E
    return byte(1) == 0x81 && byte(2) >= 0xA6 && byte(2) <= 0xA9 ? 3 : 0;  // U+2066 to U+2069
}

// std::from_chars does not read floating-point numbers everywhere yet, and std::strtod reads the locale's decimal point.
double to_double(std::string_view number) {
    std::string text(number);
    const std::size_t point = text.find('.');
    if (point != std::string::npos) text.replace(point, 1, std::localeconv()->decimal_point);
    return std::strtod(text.c_str(), nullptr);
}

}  // namespace

JsonReader::JsonReader(std::string_view text, std::string source) : text_(text), source_(std::move(source)) {
    if (!is_unicode(text)) fail(source_ + " is not valid Unicode (UTF-8)");
}

void JsonReader::refuse(const std::string& found) const {
    fail(source_ + " is not valid JSON: at byte " + std::to_string(position_) + ", " + found);
}

char JsonReader::peek() {
    while (position_ < text_.size()) {
        const char c = text_[position_];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return c;
        ++position_;
    }
    return 0;
}

void JsonReader::expect(char character) {
    if (peek() != character) refuse(std::string("no '") + character + "'");
    ++position_;
}

void JsonReader::word(const char* expected) {
    peek();
    const std::string_view word(expected);
    if (text_.substr(position_, word.size()) != word) refuse(std::string("no '") + expected + "'");
    position_ += word.size();
}

void JsonReader::enter(char bracket) {
    expect(bracket);
    if (++depth_ > MAX_DEPTH) refuse("too many arrays or objects in each other");
}

bool JsonReader::ends(char bracket) {
    if (peek() != bracket) return false;
    ++position_;
    return true;
}

bool JsonReader::continues(char bracket) {
    if (ends(bracket)) return false;
    expect(',');
    return true;
}

JsonReader::Kind JsonReader::kind() {
    const char c = peek();
    if (c == '{') return Kind::OBJECT;
    if (c == '[') return Kind::ARRAY;
    if (c == '"') return Kind::TEXT;
    if (c == 't' || c == 'f') return Kind::BOOLEAN;
    if (c == 'n') return Kind::NOTHING;
    if (c == '-' || is_digit(c)) return Kind::NUMBER;
    refuse("no value");
}

void JsonReader::nothing() { word("null"); }

bool JsonReader::boolean() {
    const bool value = peek() == 't';
    word(value ? "true" : "false");
    return value;
}

void JsonReader::digits() {
    if (position_ == text_.size() || !is_digit(text_[position_])) refuse("no digit");
    while (position_ < text_.size() && is_digit(text_[position_])) ++position_;
}

JsonNumber JsonReader::number() {
    const auto at = [&](char c) { return position_ < text_.size() && text_[position_] == c; };
    peek();
    const std::size_t start = position_;
    if (at('-')) ++position_;
    const std::size_t first = position_;
    if (at('0')) {  // nothing but a fraction or an exponent may follow
        ++position_;
    } else {
        digits();
    }
    const std::size_t whole = position_ - first;
    bool integer = true;
    if (at('.')) {
        integer = false;
        ++position_;
        digits();
    }
    if (at('e') || at('E')) {
        integer = false;
        ++position_;
        if (at('+') || at('-')) ++position_;
        digits();
    }
    if (integer && whole > MAX_DIGITS) refuse("a number of too many digits");
    const std::string_view text = text_.substr(start, position_ - start);
    return {to_double(text), integer, text};
}

unsigned JsonReader::escaped_unit() {
    unsigned unit = 0;
    for (int i = 0; i < 4; ++i, ++position_) {
        const char c = position_ < text_.size() ? text_[position_] : 0;
        const int digit = is_digit(c)            ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) refuse("an escape that is not of four hexadecimal digits");
        unit = unit * 16 + unsigned(digit);
    }
    return unit;
}

void JsonReader::escape(std::string& result) {  // the backslash has been passed
    const char c = position_ < text_.size() ? text_[position_++] : 0;
    switch (c) {
    case '"':
    case '\\':
    case '/':
        result += c;
        return;
    case 'b':
        result += '\b';
        return;
    case 'f':
        result += '\f';
        return;
    case 'n':
        result += '\n';
        return;
    case 'r':
        result += '\r';
        return;
    case 't':
        result += '\t';
        return;
    case 'u':
        break;
    default:
        refuse("an unknown escape");
    }
    unsigned code = escaped_unit();
    if (code >= 0xD800 && code <= 0xDFFF) {  // half of a character: the other half must follow
        if (code >= 0xDC00 || text_.substr(position_, 2) != "\\u") refuse("half of a surrogate pair");
        position_ += 2;
        const unsigned low = escaped_unit();
        if (low < 0xDC00 || low > 0xDFFF) refuse("half of a surrogate pair");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    append_utf8(result, code);
}

std::string JsonReader::text() {
    expect('"');
    std::string result;
    for (;;) {
        const std::size_t start = position_;
        while (position_ < text_.size() && text_[position_] != '"' && text_[position_] != '\\' &&
               !is_control(text_[position_]))
            ++position_;
        result.append(text_, start, position_ - start);
        if (position_ == text_.size() || is_control(text_[position_])) refuse("a text that does not end");
        if (text_[position_++] == '"') return result;
        escape(result);
    }
}

std::string_view JsonReader::raw() {
    peek();
    const std::size_t start = position_;
    switch (kind()) {
    case Kind::NOTHING:
        nothing();
        break;
    case Kind::BOOLEAN:
        boolean();
        break;
    case Kind::NUMBER:
        number();
        break;
    case Kind::TEXT:
        text();
        break;
    case Kind::ARRAY:
        array([&] { raw(); });
        break;
    case Kind::OBJECT:
        object([&](const std::string&) { raw(); });
        break;
    }
    return text_.substr(start, position_ - start);
}

void JsonReader::end() {
    if (peek() || position_ < text_.size()) refuse("more than one value");
}

std::string printable(std::string_view text) {
    constexpr char HEX[] = "0123456789abcdef";
    std::string result;
    for (std::size_t i = 0; i < text.size();) {
        const std::size_t hidden = hidden_bytes(text.substr(i));
        if (!hidden) result += text[i++];
        for (std::size_t k = 0; k < hidden; ++k) {
            const unsigned byte = static_cast<unsigned char>(text[i++]);
            result += {'\\', 'x', HEX[byte >> 4], HEX[byte & 15]};
        }
    }
    return result;
}

std::string shown(std::string_view text) {
    if (text.size() > MAX_SHOWN) {
        std::size_t head = MAX_SHOWN * 2 / 3, tail = text.size() - MAX_SHOWN / 3;
        while (head && continues_character(text[head])) --head;  // whole characters only
        while (tail < text.size() && continues_character(text[tail])) ++tail;
        return "'" + printable(text.substr(0, head)) + " ... " + printable(text.substr(tail)) + "'";
    }
    return "'" + printable(text) + "'";
}

std::string shown(double number) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", number);
    std::string result(text);
    const std::string point = std::localeconv()->decimal_point;
    const std::size_t place = result.find(point);
    if (!point.empty() && place != std::string::npos) result.replace(place, point.size(), ".");
    return result;
}

}  // namespace wavenet
