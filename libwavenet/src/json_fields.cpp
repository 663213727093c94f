#include "json_fields.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "failure.h"

namespace wavenet {
namespace {

std::string range_text(double low, double high) { return shown(low) + " and " + shown(high); }

}  // namespace

JsonFields::JsonFields(std::string_view json, std::string source, std::string section,
                       std::initializer_list<const char*> known, const char* former, const char* current)
    : source_(std::move(source)), section_(std::move(section)) {
    JsonReader reader(json, source_);
    if (reader.kind() != JsonReader::Kind::OBJECT)
        fail(source_ + " cannot be used: " + (section_.empty() ? "it" : section_) + " is not a table of fields");
    reader.object([&](const std::string& given_name) {
        const std::string name = former && given_name == former ? current : given_name;
        if (std::none_of(known.begin(), known.end(), [&](const char* other) { return name == other; })) {
            const std::string where = section_.empty() ? "" : " of " + section_;
            fail(source_ + " cannot be used: " + shown(given_name) + " is an unknown field" + where);
        }
        if (!texts_.emplace(name, reader.raw()).second) refuse(name, "given under two names");
    });
    reader.end();
}

JsonReader JsonFields::reader(const char* name) const { return JsonReader(texts_.at(name), source_); }

bool JsonFields::nothing(const char* name) const {
    return !given(name) || reader(name).kind() == JsonReader::Kind::NOTHING;
}

bool JsonFields::is_table(const char* name) const { return reader(name).kind() == JsonReader::Kind::OBJECT; }

void JsonFields::refuse(const std::string& name, const std::string& reason) const {
    fail(source_ + " cannot be used: " + qualified(name) + ": " + reason);
}

void JsonFields::refuse_value(const char* name, const std::string& reason) const {
    fail(source_ + " cannot be used: " + qualified(name) + " = " + shown(texts_.at(name)) + ": " + reason);
}

JsonNumber JsonFields::number(const char* name) const {
    JsonReader value = reader(name);
    if (value.kind() != JsonReader::Kind::NUMBER) refuse_value(name, "expected a number");
    return value.number();
}

int JsonFields::integer(const char* name, int low, int high) const {
    const JsonNumber found = number(name);
    if (!found.integer) refuse_value(name, "expected an integer");
    if (!(found.value >= low && found.value <= high))
        refuse_value(name, "must be between " + std::to_string(low) + " and " + std::to_string(high));
    return int(found.value);
}

double JsonFields::real(const char* name, double low, double high) const {
    const double value = number(name).value;
    if (!(value >= low && value <= high)) refuse_value(name, "must be between " + range_text(low, high));
    return value;
}

bool JsonFields::boolean(const char* name) const {
    JsonReader value = reader(name);
    if (value.kind() != JsonReader::Kind::BOOLEAN) refuse_value(name, "expected true or false");
    return value.boolean();
}

std::string JsonFields::text(const char* name) const {
    JsonReader value = reader(name);
    if (value.kind() != JsonReader::Kind::TEXT) refuse_value(name, "expected text");
    return value.text();
}

std::vector<std::string> JsonFields::texts(const char* name) const {
    std::vector<std::string> values;
    JsonReader list = reader(name);
    if (list.kind() != JsonReader::Kind::ARRAY) refuse_value(name, "expected a list of names");
    list.array([&] {
        if (list.kind() != JsonReader::Kind::TEXT) refuse_value(name, "expected a list of names");
        values.push_back(list.text());
    });
    return values;
}

std::vector<double> JsonFields::reals(const char* name, double low, double high) const {
    std::vector<double> values;
    JsonReader list = reader(name);
    if (list.kind() != JsonReader::Kind::ARRAY) refuse_value(name, "expected a list of numbers");
    list.array([&] {
        if (list.kind() != JsonReader::Kind::NUMBER) refuse_value(name, "expected a list of numbers");
        values.push_back(list.number().value);
        if (!(values.back() >= low && values.back() <= high))
            refuse_value(name, "all must be between " + range_text(low, high));
    });
    return values;
}

std::array<double, 2> JsonFields::interval(const char* name, double low, double high) const {
    const std::vector<double> values = reals(name, low, high);
    if (values.size() != 2 || values[0] > values[1]) refuse_value(name, "expected two numbers in ascending order");
    return {values[0], values[1]};
}

int JsonFields::choice(const char* name, std::initializer_list<const char*> known) const {
    const std::string value = text(name);
    std::string listed;
    int index = 0;
    for (const char* choice : known) {
        if (value == choice) return index;
        listed += (index++ ? ", " : "") + std::string(choice);
    }
    refuse_value(name, "unknown; known: " + listed);
}

}  // namespace wavenet
