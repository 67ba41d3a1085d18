// Finds what a reader probably meant, for messages only.
namespace IptNative.Model.Checkpoints;

/// <summary>The nearest of a list of names by edit distance.</summary>
public static class NearestName
{
    // Beyond this the list is not searched: a message must not cost seconds on a hostile file.
    private const int MaxNames = 4096;
    private const int MaxLength = 256;

    /// <summary>The nearest name.</summary>
    /// <param name="names">What there is.</param>
    /// <param name="wanted">What was asked for.</param>
    /// <param name="atMost">Most edits by which a name may differ; what is further off was not meant.</param>
    /// <returns>The first of the nearest, or null.</returns>
    public static string? Of(IEnumerable<string> names, string wanted, int atMost = int.MaxValue)
    {
        ArgumentNullException.ThrowIfNull(names);
        ArgumentNullException.ThrowIfNull(wanted);
        string? best = null;
        int bestDistance = int.MaxValue;
        foreach (string name in names.Take(MaxNames))
        {
            if (name.Length > MaxLength || wanted.Length > MaxLength)
                continue;
            int d = Distance(name, wanted);
            if (d < bestDistance)
                (best, bestDistance) = (name, d);
        }
        return bestDistance <= atMost ? best : null;
    }

    /// <summary>A phrase: how many names there are and which is nearest.</summary>
    internal static string Among(IReadOnlyCollection<string> names, string wanted)
    {
        string count = names.Count == 1 ? "there is 1 tensor" : $"there are {names.Count} tensors";
        return Of(names, wanted) is not { } best ? count : $"{count}, the nearest name is '{best}'";
    }

    private static int Distance(string a, string b)
    {
        Span<int> row = stackalloc int[MaxLength + 1];
        for (int j = 0; j <= b.Length; j++)
            row[j] = j;
        for (int i = 1; i <= a.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.Length; j++)
            {
                int substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.Min(substituted, Math.Min(row[j], row[j - 1]) + 1);
            }
        }
        return row[b.Length];
    }
}
