// The text surgery of T5's preprocessors, by hand because its regular expressions are RE2's: \W and \s are ASCII there and Unicode in .NET.
using System.Text;

namespace IptNative.Tasks.Casting;

internal static class CastingText
{
    /// <summary>A space on either side of every character that is no ASCII letter, digit or underscore; runs of white space become one space.</summary>
    public static string PadPunctuation(string text)
    {
        var padded = new StringBuilder(text.Length * 2);
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (rune.IsAscii && (Rune.IsLetterOrDigit(rune) || rune.Value == '_')) padded.Append((char)rune.Value);
            else padded.Append(' ').Append(rune.ToString()).Append(' ');
        }
        return CollapseSpaces(padded.ToString());
    }

    /// <summary>Runs of ASCII white space become one space.</summary>
    public static string CollapseSpaces(string text)
    {
        var collapsed = new StringBuilder(text.Length);
        bool space = false;
        foreach (char c in text)
        {
            bool isSpace = c is ' ' or '\t' or '\n' or '\f' or '\r';
            if (!isSpace) collapsed.Append(c);
            else if (!space) collapsed.Append(' ');
            space = isSpace;
        }
        return collapsed.ToString();
    }

    /// <summary>MultiRC: line breaks become spaces, bold marks go.</summary>
    public static string RemoveMarkup(string text) =>
        text.Replace("<br>", " ", StringComparison.Ordinal).Replace("<b>", "", StringComparison.Ordinal).Replace("</b>", "", StringComparison.Ordinal);

    /// <summary>ReCoRD: a highlight becomes a sentence, with a full stop before it unless there is punctuation.</summary>
    public static string RewriteHighlights(string passage)
    {
        const string Mark = "\n@highlight\n";
        foreach (char end in ".?!\"'") passage = passage.Replace(end + Mark, end + " ", StringComparison.Ordinal);
        return passage.Replace(Mark, ". ", StringComparison.Ordinal);
    }

    /// <summary>WSC: stars around the pronoun, the word at the given place.</summary>
    public static string MarkPronoun(string text, int index, string pronoun, string where)
    {
        // The two records whose index is wrong or whose pronoun is quoted, as T5 patches them.
        if (text.StartsWith("The boy continued to whip the pony , and eventually the pony threw him over. John laughed out quite loud. \"Good for him,\" he said.", StringComparison.Ordinal))
            return text.Replace("for him,", "for *him*,", StringComparison.Ordinal).TrimEnd();
        if (text.StartsWith("When they had eventually calmed down a bit , and had gotten home, Mr. Farley put the magic pebble in an iron safe .", StringComparison.Ordinal))
            return text.Replace("use it ,", "use *it* ,", StringComparison.Ordinal);
        string[] words = text.Split(' ');
        if (index < 0 || index >= words.Length || words[index] != pronoun)
            throw new InvalidDataException($"{where}: span2_index {index} is {(index >= 0 && index < words.Length ? $"\"{words[index]}\"" : $"outside the {words.Length} words")}; expected the pronoun \"{pronoun}\" there.");
        words[index] = $"*{pronoun}*";
        return string.Join(' ', words);
    }
}
