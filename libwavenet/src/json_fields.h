// The fields of a JSON object, read with checks of their types and ranges. Every error names the field and what it may be.
#pragma once

#include <array>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "json.h"

namespace wavenet {

class JsonFields {
public:
    // json: must outlive this object. section: the name of the table, empty for the outermost one.
    // Fails for a name that is not known. former: an earlier name of a known field, or nullptr.
    JsonFields(std::string_view json, std::string source, std::string section, std::initializer_list<const char*> known,
               const char* former = nullptr, const char* current = nullptr);

    bool given(const char* name) const { return texts_.count(name) != 0; }
    bool nothing(const char* name) const;  // not given, or null
    bool is_table(const char* name) const;
    std::string_view raw(const char* name) const { return texts_.at(name); }

    // Values of fields that are given and not null; low and high are allowed.
    int integer(const char* name, int low, int high) const;
    double real(const char* name, double low, double high) const;
    bool boolean(const char* name) const;
    std::string text(const char* name) const;
    JsonNumber number(const char* name) const;
    std::vector<std::string> texts(const char* name) const;
    std::vector<double> reals(const char* name, double low, double high) const;
    std::array<double, 2> interval(const char* name, double low, double high) const;
    // The index of a text in a list.
    int choice(const char* name, std::initializer_list<const char*> known) const;

    [[noreturn]] void refuse_value(const char* name, const std::string& reason) const;  // shows the value
    [[noreturn]] void refuse(const std::string& name, const std::string& reason) const;

private:
    JsonReader reader(const char* name) const;
    std::string qualified(const std::string& name) const { return section_.empty() ? name : section_ + "." + name; }

    const std::string source_, section_;
    std::map<std::string, std::string_view, std::less<>> texts_;
};

}  // namespace wavenet
