// The arithmetic of the metrics over plain lists. Deliberately without names and registry: see Metric.
namespace IptNative.Tasks.Metrics;

internal static class Scores
{
    /// <summary>Token F1 of two normalised texts; 0 where nothing is shared, two empty texts included.</summary>
    public static double TokenF1(string prediction, string gold)
    {
        List<string> predicted = AnswerText.Words(prediction);
        List<string> wanted = AnswerText.Words(gold);
        var counts = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (string word in wanted) counts[word] = counts.GetValueOrDefault(word) + 1;
        int same = 0;
        foreach (string word in predicted)
        {
            if (counts.GetValueOrDefault(word) == 0) continue;
            counts[word]--;
            same++;
        }
        if (same == 0) return 0;
        double precision = (double)same / predicted.Count;
        double recall = (double)same / wanted.Count;
        return 2 * precision * recall / (precision + recall);
    }

    /// <summary>Mean F1 over the given classes; a class that is neither gold nor predicted counts 0, as in sklearn.</summary>
    public static double MacroF1(IReadOnlyList<string> gold, IReadOnlyList<string> predicted, IReadOnlyCollection<string> classes) =>
        classes.Average(c => BinaryF1(gold.Count, i => gold[i] == c, i => predicted[i] == c));

    /// <summary>2 TP / (2 TP + FP + FN); 0 without any.</summary>
    public static double BinaryF1(int count, Func<int, bool> gold, Func<int, bool> predicted)
    {
        int both = 0;
        int either = 0;
        for (int i = 0; i < count; i++)
        {
            bool g = gold(i);
            bool p = predicted(i);
            if (g && p) both++;
            if (g) either++;
            if (p) either++;
        }
        return either == 0 ? 0 : 2.0 * both / either;
    }

    /// <summary>Pearson's correlation; NaN where a list is constant or holds NaN.</summary>
    public static double Pearson(IReadOnlyList<double> x, IReadOnlyList<double> y)
    {
        double meanX = x.Average();
        double meanY = y.Average();
        double xy = 0;
        double xx = 0;
        double yy = 0;
        for (int i = 0; i < x.Count; i++)
        {
            xy += (x[i] - meanX) * (y[i] - meanY);
            xx += (x[i] - meanX) * (x[i] - meanX);
            yy += (y[i] - meanY) * (y[i] - meanY);
        }
        if (xx == 0 || yy == 0) return double.NaN;
        double r = xy / (Math.Sqrt(xx) * Math.Sqrt(yy));
        return double.IsNaN(r) ? r : Math.Clamp(r, -1, 1);
    }

    /// <summary>Ranks from 1, equal values sharing their mean.</summary>
    public static double[] Ranks(IReadOnlyList<double> values)
    {
        int[] order = [.. Enumerable.Range(0, values.Count).OrderBy(i => values[i])];
        var ranks = new double[values.Count];
        for (int i = 0; i < order.Length;)
        {
            int end = i + 1;
            while (end < order.Length && values[order[end]] == values[order[i]]) end++;
            for (int j = i; j < end; j++) ranks[order[j]] = (i + 1 + end) / 2.0;
            i = end;
        }
        return ranks;
    }

    /// <summary>Matthews' correlation of two yes/no lists; 0 where one of them is constant, as in sklearn.</summary>
    public static double Matthews(IReadOnlyList<bool> gold, IReadOnlyList<bool> predicted)
    {
        double tp = 0;
        double tn = 0;
        double fp = 0;
        double fn = 0;
        for (int i = 0; i < gold.Count; i++)
        {
            if (gold[i] && predicted[i]) tp++;
            else if (gold[i]) fn++;
            else if (predicted[i]) fp++;
            else tn++;
        }
        double square = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn);
        return square == 0 ? 0 : (tp * tn - fp * fn) / Math.Sqrt(square);
    }
}
