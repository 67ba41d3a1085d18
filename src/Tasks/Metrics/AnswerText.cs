// Python's view of text, where scores depend on it: SQuAD normalisation, str.split, float(). Deliberately not regular expressions: \w and \b differ
// between Python and .NET on combining marks and joiners.
using System.Globalization;
using System.Text;

namespace IptNative.Tasks.Metrics;

internal static class AnswerText
{
    // string.punctuation
    public static bool IsPunctuation(char c) => c is (>= '!' and <= '/') or (>= ':' and <= '@') or (>= '[' and <= '`') or (>= '{' and <= '~');

    // str.isspace
    public static bool IsSpace(char c) => char.IsWhiteSpace(c) || c is >= '\x1c' and <= '\x1f';

    public static string Strip(string text)
    {
        int start = 0;
        int end = text.Length;
        while (start < end && IsSpace(text[start])) start++;
        while (end > start && IsSpace(text[end - 1])) end--;
        return text[start..end];
    }

    /// <summary>str.split(): at runs of white space, no empty words.</summary>
    public static List<string> Words(string text)
    {
        var words = new List<string>();
        int start = -1;
        for (int i = 0; i <= text.Length; i++)
        {
            bool inWord = i < text.Length && !IsSpace(text[i]);
            if (inWord && start < 0) start = i;
            if (inWord || start < 0) continue;
            words.Add(text[start..i]);
            start = -1;
        }
        return words;
    }

    /// <summary>SQuAD: lower case, ASCII punctuation removed, the words a, an, the removed, white space squeezed.</summary>
    /// <remarks>Differs from Python: lower case by single characters, so a word-final capital sigma becomes the medial one.</remarks>
    public static string Normalise(string answer)
    {
        var kept = new StringBuilder(answer.Length);
        foreach (char c in answer.ToLowerInvariant())
            if (!IsPunctuation(c)) kept.Append(c);
        string text = kept.ToString();
        var withoutArticles = new StringBuilder(text.Length);
        for (int i = 0; i < text.Length;)
        {
            int end = i;
            while (end < text.Length && Rune.TryGetRuneAt(text, end, out Rune rune) && IsWordCharacter(rune)) end += rune.Utf16SequenceLength;
            if (end == i) withoutArticles.Append(text[i++]);
            else
            {
                ReadOnlySpan<char> word = text.AsSpan(i, end - i);
                if (word is "a" or "an" or "the") withoutArticles.Append(' ');
                else withoutArticles.Append(word);
                i = end;
            }
        }
        return string.Join(' ', Words(withoutArticles.ToString()));
    }

    /// <summary>float(text), or NaN where Python would raise.</summary>
    public static double Number(string text)
    {
        string s = Strip(text);
        if (double.TryParse(s, NumberStyles.AllowLeadingSign | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent, CultureInfo.InvariantCulture, out double number)) return number;
        bool negative = s.StartsWith('-');
        return s.TrimStart('+', '-').ToUpperInvariant() is "INF" ? (negative ? double.NegativeInfinity : double.PositiveInfinity) : double.NaN;
    }

    // Python's \w: alphanumeric or underscore; underscores are punctuation and gone here.
    private static bool IsWordCharacter(Rune rune) => Rune.IsLetter(rune)
        || Rune.GetUnicodeCategory(rune) is UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber;
}
