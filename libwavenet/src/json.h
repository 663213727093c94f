// A strict reader of JSON (RFC 8259) that builds no tree: the caller asks for the values that it expects, in the order of
// the text. Names that appear twice in an object are refused, and so are texts that are not valid Unicode.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <string_view>

namespace wavenet {

struct JsonNumber {
    double value;           // infinity if it is too large
    bool integer;           // whether it is written without fraction and exponent
    std::string_view text;  // as it is written
};

class JsonReader {
public:
    enum class Kind { NOTHING, BOOLEAN, NUMBER, TEXT, ARRAY, OBJECT };

    // text: must outlive the reader. source: what it is, which errors begin with, such as "a.safetensors: its header".
    JsonReader(std::string_view text, std::string source);

    Kind kind();  // of the next value
    void nothing();
    bool boolean();
    JsonNumber number();
    std::string text();      // in UTF-8
    std::string_view raw();  // any value, as it is written

    // Calls field(name) for every name of an object; it must read the value.
    template <class Field>
    void object(Field&& field) {
        std::set<std::string> names;
        enter('{');
        if (!ends('}')) {
            do {
                const std::string name = text();
                if (!names.insert(name).second) refuse("a name that appears twice in an object");
                expect(':');
                field(name);
            } while (continues('}'));
        }
        leave();
    }

    // Calls element() for every element of an array; it must read it.
    template <class Element>
    void array(Element&& element) {
        enter('[');
        if (!ends(']')) {
            do {
                element();
            } while (continues(']'));
        }
        leave();
    }

    void end();  // nothing may follow the value

    [[noreturn]] void refuse(const std::string& found) const;

private:
    char peek();  // the next character that is not white space; 0 at the end
    void expect(char character);
    void word(const char* expected);
    void enter(char bracket);
    void leave() { --depth_; }
    bool ends(char bracket);       // whether the array or object ends here; passes its end
    bool continues(char bracket);  // passes a comma or the end
    void digits();
    unsigned escaped_unit();  // the four digits of \uXXXX
    void escape(std::string& result);

    const std::string_view text_;
    const std::string source_;
    std::size_t position_ = 0;
    int depth_ = 0;
};

// A text as error messages show it: in quotes, on one line, with the middle of long ones left out.
std::string shown(std::string_view text);
// The same without quotes and in full length: for paths.
std::string printable(std::string_view text);
// A number with six digits, with a point in every locale.
std::string shown(double number);

}  // namespace wavenet
