// Against the reference program itself, where it is installed (Debian package sentencepiece).
using System.Diagnostics;
using System.Text;
using IptNative.Model.Tokenizer;
using Xunit;
using static IptNative.Model.Tests.Tokenizer.TokenizerFixture;

namespace IptNative.Model.Tests.Tokenizer;

public sealed class SpmEncodeTests
{
    private const string Program = "/usr/bin/spm_encode";

    [Fact]
    public void TwoThousandGymLikeLinesHaveTheReferencesIds()
    {
        RequireProgram();
        Random random = new(20);
        string[] lines = [.. Enumerable.Range(0, 2000).Select(_ => GymLikeLine(random))];
        Compare(File.ReadAllBytes(T5ModelPath), lines);
    }

    [Theory]
    [InlineData(false, true, true, false)]
    [InlineData(true, true, true, false)]
    [InlineData(false, false, true, false)]
    [InlineData(false, true, false, false)]
    [InlineData(true, false, false, false)]
    [InlineData(false, true, true, true)]
    public void EverySwitchOfAModelWorksAsInTheReference(bool byteFallback, bool dummyPrefix, bool removeSpaces, bool suffix)
    {
        RequireProgram();
        Random random = new(7);
        // User-defined pieces beside normal ones that overlap them, an unused one, equal scores for ties, and no piece for some letters.
        List<(string, float, int)> pieces = [.. Pieces(("▁", -2), ("a", -3), ("b", -3), ("ab", -6), ("▁a", -5), ("ba", -6), ("aba", -9), ("é", -4), ("日", -4), ("▁▁", -4), ("c", -3.5f), ("bc", -6.25f))];
        pieces.AddRange([("<sep>", 0, 4), ("b c", 0, 4), ("abc", -1, 5), ("x y", 0, 4), ("e", 0, 4)]);
        if (byteFallback)
            pieces.AddRange(Enumerable.Range(0, 256).Select(b => ($"<0x{b:X2}>", 0f, 6)));
        string[] alphabet = ["a", "b", "c", " ", "  ", "\t", "é", "e", "e\u0301", "日", "本", "<sep>", "b c", "x", "y", "x y", "▁", "\U0001F600", "<unk>", "</s>", "\u3000", "\u200b", "ﬁ"];
        string[] lines = [.. Enumerable.Range(0, 1500).Select(_ => string.Concat(Enumerable.Range(0, random.Next(1, 14)).Select(_ => alphabet[random.Next(alphabet.Length)])))];
        Compare(WriteModel(pieces, byteFallback, dummyPrefix: dummyPrefix, removeSpaces: removeSpaces, suffix: suffix), lines);
    }

    private static void RequireProgram()
    {
        if (!File.Exists(Program))
            Assert.Skip($"{Program} is not installed (Debian package sentencepiece); the golden file covers the same ground with fixed lines.");
    }

    private static void Compare(byte[] model, string[] lines)
    {
        string folder = NewFolder();
        try
        {
            string modelPath = Path.Combine(folder, "test.model"), input = Path.Combine(folder, "input.txt"), output = Path.Combine(folder, "ids.txt"), decoded = Path.Combine(folder, "text.txt");
            File.WriteAllBytes(modelPath, model);
            File.WriteAllText(input, string.Join('\n', lines) + "\n", new UTF8Encoding(false));
            Run(Program, $"--model={modelPath}", "--output_format=id", $"--output={output}", input);
            Run("/usr/bin/spm_decode", $"--model={modelPath}", "--input_format=id", $"--output={decoded}", output);
            T5Tokenizer tokenizer = T5Tokenizer.Load(modelPath);
            string[] expected = File.ReadAllText(output).Split('\n');
            string[] texts = File.ReadAllText(decoded).Split('\n');
            Assert.Equal(lines.Length + 1, expected.Length);
            for (int i = 0; i < lines.Length; i++)
            {
                int[] ids = tokenizer.Encode(lines[i], false);
                string found = string.Join(' ', ids);
                Assert.True(found == expected[i], $"line {i} '{lines[i]}': [{found}], spm_encode [{expected[i]}]");
                Assert.True(tokenizer.Decode(ids) == texts[i], $"line {i} '{lines[i]}': '{tokenizer.Decode(ids)}', spm_decode '{texts[i]}'");
            }
        }
        finally
        {
            Directory.Delete(folder, true);
        }
    }

    private static void Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
        string errors = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, errors);
    }

    private static string GymLikeLine(Random random)
    {
        string[] words = ["what", "is", "my", "balance", "options:", "a)", "$3.50", "Berlin", "naïve", "Größe", "New York", "don't", "—", "\"quoted\"", "x^2+1", "1,024", "COVID-19", "résumé", "½", "™", "日本", "привет", "\u00a0", "  ", "(", ")", "...", "http://t.co/a_b?c=1", "e\u0301", "ﬀ", "\t", "antidisestablishmentarianism", "zzzz", "🙂", "\u00ad", "<b>", "</s>", "▁", "text:"];
        StringBuilder line = new(random.Next(3) == 0 ? "[clinc150-domain] " : "");
        for (int i = random.Next(1, 30); i > 0; i--)
        {
            line.Append(words[random.Next(words.Length)]);
            if (random.Next(8) == 0)
                line.Append((char)random.Next(0x21, 0x17F));
            line.Append(random.Next(10) == 0 ? "" : " ");
        }

        // Line feeds would part the line for the reference; some that look like one too.
        return line.ToString().Replace('\u0085', ' ');
    }
}
