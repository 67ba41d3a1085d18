// ROUGE-L as the Python package rouge==1.0.0 computes it. Deliberately not the rouge_score package, which stems and counts words with repetition.
namespace IptNative.Tasks.Metrics;

/// <summary>Summary-level ROUGE-L with the package's quirks: sentences end at ".", m and n count distinct words, blanks around "." are a word "".</summary>
internal static class RougeL
{
    /// <summary>F score of one prediction against one reference.</summary>
    /// <exception cref="InvalidDataException">The reference has no sentence (it is empty or only full stops), where the package raises too.</exception>
    public static double Score(string prediction, string reference)
    {
        List<string[]> candidate = Sentences(prediction);
        List<string[]> gold = Sentences(reference);
        if (gold.Count == 0) throw new InvalidDataException($"ROUGE-L: the gold answer \"{reference}\" has no sentence; expected text besides full stops. Correct the task's file.");
        if (candidate.Count == 0) return 0;
        var union = new HashSet<string>(StringComparer.Ordinal);
        foreach (string[] sentence in gold)
            foreach (string[] other in candidate) AddLcs(sentence, other, union);
        double recall = (double)union.Count / gold.SelectMany(s => s).Distinct(StringComparer.Ordinal).Count();
        double precision = (double)union.Count / candidate.SelectMany(s => s).Distinct(StringComparer.Ordinal).Count();
        return 2.0 * (precision * recall / (precision + recall + 1e-8));
    }

    // "".Split(' ') is one empty word, in Python as here.
    private static List<string[]> Sentences(string text) =>
        [.. text.Split('.').Where(s => s.Length > 0).Select(s => string.Join(' ', AnswerText.Words(s)).Split(' '))];

    // The words of one longest common subsequence; which one decides the union, so ties go the package's way.
    private static void AddLcs(string[] x, string[] y, HashSet<string> union)
    {
        var table = new int[x.Length + 1, y.Length + 1];
        for (int i = 1; i <= x.Length; i++)
            for (int j = 1; j <= y.Length; j++)
                table[i, j] = x[i - 1] == y[j - 1] ? table[i - 1, j - 1] + 1 : Math.Max(table[i - 1, j], table[i, j - 1]);
        for (int i = x.Length, j = y.Length; i > 0 && j > 0;)
        {
            if (x[i - 1] == y[j - 1])
            {
                union.Add(x[i - 1]);
                i--;
                j--;
            }
            else if (table[i - 1, j] > table[i, j - 1]) i--;
            else j--;
        }
    }
}
