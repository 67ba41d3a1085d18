// JSON has no NaN and no infinity. Files of a run say null there: a score without a value, a gradient that ran away.
using System.Text.Json;

namespace IptNative.Tuning.Runs;

/// <summary>Writes numbers that may not be finite.</summary>
internal static class FiniteNumber
{
    /// <summary>A number, or null.</summary>
    public static void WriteFinite(this Utf8JsonWriter json, JsonEncodedText name, double value)
    {
        if (double.IsFinite(value))
            json.WriteNumber(name, value);
        else
            json.WriteNull(name);
    }

    /// <summary>A number, or null.</summary>
    public static void WriteFinite(this Utf8JsonWriter json, string name, double value) => json.WriteFinite(JsonEncodedText.Encode(name), value);
}
