// Whether a predicted referent of WSC is the one asked about. Deliberately nothing else: the score is Metric's wsc_accuracy.
namespace IptNative.Tasks.Metrics;

/// <summary>Word-subset match after determiners are dropped.</summary>
/// <remarks>
/// Source: text-to-text-transfer-transformer, t5/data/postprocessors.py, wsc_simple.
/// A prediction of nothing but determiners is no class at all, as in its later versions (-1 there).
/// </remarks>
internal static class WscReferent
{
    private static readonly HashSet<string> Determiners = new(StringComparer.Ordinal)
    {
        "a", "an", "few", "her", "his", "each", "every", "many", "much", "my", "our", "some", "that", "the", "their", "these", "this", "those", "which", "whose", "your",
    };

    /// <summary>True or false, or null for a prediction without words, which equals neither class.</summary>
    public static bool? Matches(string prediction, string referent)
    {
        string predicted = Clean(prediction);
        if (predicted.Length == 0) return null;
        string wanted = Clean(referent);
        // "Bob" is not "Bob's hat".
        if (predicted.Contains('\'') != wanted.Contains('\'')) return false;
        HashSet<string> a = new(predicted.Split(' '), StringComparer.Ordinal);
        HashSet<string> b = new(wanted.Split(' '), StringComparer.Ordinal);
        return a.IsSubsetOf(b) || b.IsSubsetOf(a);
    }

    private static string Clean(string text) => string.Join(' ', AnswerText.Strip(text).ToLowerInvariant().Split(' ').Where(w => !Determiners.Contains(w)));
}
