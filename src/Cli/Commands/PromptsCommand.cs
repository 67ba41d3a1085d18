// `iptnative prompts`: what prompts some files and folders hold, and the same prompts in another form. Deliberately not: what they mean (inspect).
using System.CommandLine;
using IptNative.Cli.Terminal;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Prompts;

namespace IptNative.Cli.Commands;

internal static class PromptsCommand
{
    public static Command Create()
    {
        var paths = new Argument<string[]>("prompt") { Description = "PEFT folders, .npy (T5X too), .safetensors or .pt files, FILE#NAME for one of several, or folders of these.", Arity = ArgumentArity.OneOrMore };
        var to = new Option<string?>("--out") { Description = "Write them: NAME.safetensors holds all, NAME.npy one (as T5X reads it), another name is a folder with a PEFT folder for each." };
        var command = new Command("prompts", "List prompts, and convert between PEFT folders, T5X's .npy and one file of many.") { paths };
        command.Options.Add(to);
        command.WithExamples(
            "iptnative prompts runs/quickstart/best",
            "iptnative prompts runs/quickstart/best --out all.safetensors",
            "iptnative prompts all.safetensors#words-second-seed42 --out words-second.npy",
            "iptnative prompts peft-multitask --out single-tasks");
        command.SetRun((parsed, _) =>
        {
            PromptEntry[] entries = [.. PromptFolder.Expand(parsed.GetValue(paths)!)];
            KeyValuePair<string, Prompt>[] prompts = [.. entries.Select(e => KeyValuePair.Create(NameOf(e), PromptFile.Read(e.Path)))];
            if (parsed.GetValue(to) is { } path)
                Write(path, prompts);
            using TextWriter output = StandardOutput.Open();
            int width = Math.Max(8, prompts.Max(p => p.Key.Length) + 2);
            output.WriteLine($"{"prompt".PadRight(width)}{"rows",6}{"d_model",9}{"rms",9}  template");
            foreach ((string name, Prompt prompt) in prompts)
                output.WriteLine($"{name.PadRight(width)}{prompt.Length,6}{prompt.DModel,9}{Rms(prompt),9:0.000}  {prompt.Template?.Source ?? "-"}");
            if (parsed.GetValue(to) is { } written)
                output.WriteLine($"written to {written}");
            return ExitCode.Done;
        });
        return command;
    }

    // FILE#NAME is called NAME, a task of a folder FOLDER-NAME, a file by itself without its extension.
    private static string NameOf(PromptEntry entry)
    {
        string path = Path.TrimEndingDirectorySeparator(entry.Name);
        if (!File.Exists(path) && PromptSetFile.Split(path) is { } part)
            return Directory.Exists(part.Path) ? $"{Path.GetFileName(part.Path)}-{part.Name}" : part.Name;
        return File.Exists(path) ? Path.GetFileNameWithoutExtension(path) : Path.GetFileName(path);
    }

    private static double Rms(Prompt prompt) => Math.Sqrt(prompt.Values.Sum(v => (double)v * v) / prompt.Values.Length);

    private static void Write(string path, KeyValuePair<string, Prompt>[] prompts)
    {
        string? twice = prompts.GroupBy(p => p.Key, StringComparer.Ordinal).FirstOrDefault(g => g.Count() > 1)?.Key;
        if (twice is not null)
            throw new UsageException($"--out: two prompts are called '{twice}', expected different names. Rename one of them.");
        switch (Path.GetExtension(path).ToLowerInvariant())
        {
            case ".safetensors":
                PromptSetFile.Write(path, prompts);
                break;
            case ".npy":
                if (prompts.Length != 1)
                    throw new UsageException($"--out: found {prompts.Length} prompts for {path}, expected one: a .npy file holds one array. Take .safetensors, or a folder.");
                if (prompts[0].Value.Template is { } template)
                    throw new UsageException($"--out: '{prompts[0].Key}' has the template \"{template}\", which a .npy file cannot hold. Take .safetensors, or a folder.");
                NumpyFile.Write(path, new TensorShape(prompts[0].Value.Length, prompts[0].Value.DModel), prompts[0].Value.Values);
                break;
            case "":
                foreach ((string name, Prompt prompt) in prompts)
                    PeftPrompt.Write(Path.Combine(path, name), prompt);
                break;
            default:
                throw new UsageException($"--out is {path}, expected NAME.safetensors, NAME.npy, or a folder's name without extension.");
        }
    }
}
