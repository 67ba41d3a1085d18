// Where the goldens are, and how closely a result must meet one.
using System.Text.Json;
using Xunit;

namespace IptNative.Model.Tests.Forward;

internal static class Goldens
{
    public static string Folder { get; } = Path.Combine(Root(), "tests", "Goldens", "t5v11");

    public static Npy Load(string name) => Npy.Load(Path.Combine(Folder, name + ".npy"));

    public static double Expected(string name)
    {
        using JsonDocument json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(Folder, "expected.json")));
        return json.RootElement.GetProperty(name).GetDouble();
    }

    /// <summary>Compares element by element and names the worst.</summary>
    public static void Near(ReadOnlySpan<double> expected, ReadOnlySpan<float> actual, double tolerance, string what)
    {
        Assert.Equal(expected.Length, actual.Length);
        int worst = 0;
        for (int i = 0; i < actual.Length; i++)
        {
            // Negated so that NaN is the worst of all.
            if (!(Math.Abs(actual[i] - expected[i]) <= Math.Abs(actual[worst] - expected[worst])))
                worst = i;
        }
        double error = Math.Abs(actual[worst] - expected[worst]);
        Assert.True(error <= tolerance, $"{what}: element {worst} is {actual[worst]:R}, expected {expected[worst]:R}; error {error:e2}, tolerance {tolerance:e2}");
    }

    public static string Root()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "IptNative.sln")))
            folder = Path.GetDirectoryName(folder);
        return folder ?? throw new InvalidOperationException("IptNative.sln lies in no folder above the tests.");
    }
}
