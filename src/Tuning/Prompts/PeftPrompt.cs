// PEFT's folders of a prompt: adapter_config.json and adapter_model. Deliberately not: LoRA, prefix tuning.
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;

namespace IptNative.Tuning.Prompts;

/// <summary>Reads and writes PEFT adapters of type PROMPT_TUNING; reads P_TUNING ones, whose saved tensor is a prompt too, and each task's prompt of MULTITASK_PROMPT_TUNING ones.</summary>
/// <remarks>
/// A prompt of several tasks is P_k = P * (cols_k rows_k), elementwise, from prompt_embeddings [P, D], prefix_task_cols [tasks, P, ranks] and prefix_task_rows
/// [tasks, ranks, D] (Wang et al. 2023). Where it stands in a text of our own making is in prompt_template.txt beside it, which PEFT does not look at.
/// PEFT counts two transformer submodules for T5 and saves 2P rows, of which its own model reads the first P; here one is written and the first P are read.
/// Source: huggingface/peft, tuners/prompt_tuning and utils/save_and_load.py.
/// </remarks>
public static class PeftPrompt
{
    internal const string TensorName = "prompt_embeddings";
    /// <summary>The file that makes a folder an adapter.</summary>
    public const string ConfigName = "adapter_config.json";

    /// <summary>The file that says where the rows stand in a text.</summary>
    internal const string TemplateName = "prompt_template.txt";

    private const string Cols = "prefix_task_cols";
    private const string Rows = "prefix_task_rows";
    private const string SafetensorsName = "adapter_model.safetensors";
    private const string BinName = "adapter_model.bin";
    private const long MaxConfigBytes = 1 << 22;
    private const int MostTasks = 1 << 16;

    /// <summary>Reads a folder.</summary>
    /// <param name="folder">Holds adapter_config.json and adapter_model.safetensors or .bin.</param>
    /// <returns>The prompt.</returns>
    /// <exception cref="InvalidDataException">A file is missing or damaged, the adapter is of another kind, or its parts contradict each other.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public static Prompt Read(string folder) => Read(folder, null);

    /// <summary>The tasks of an adapter, by number; none where it has a prompt and no tasks.</summary>
    /// <param name="folder">As <see cref="Read(string)"/>.</param>
    /// <returns>"0", "1", ...</returns>
    /// <exception cref="InvalidDataException">A file is missing or damaged.</exception>
    internal static IReadOnlyList<string> Tasks(string folder)
    {
        string configPath = Path.Combine(folder, ConfigName);
        if (!File.Exists(configPath) || Parse(configPath) is var config && Text(config, "peft_type", configPath) != "MULTITASK_PROMPT_TUNING")
            return [];
        int tasks = Integer(config, "num_tasks", configPath) ?? throw new InvalidDataException($"{configPath}: num_tasks is missing, expected the number of tasks.");
        return [.. Enumerable.Range(0, Math.Min(tasks, MostTasks)).Select(t => t.ToString(System.Globalization.CultureInfo.InvariantCulture))];
    }

    /// <summary>Reads a folder, or one task of it.</summary>
    internal static Prompt Read(string folder, string? task)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        string configPath = Path.Combine(folder, ConfigName);
        if (!File.Exists(configPath))
            throw new InvalidDataException($"{folder}: reading a PEFT prompt; {ConfigName} is missing. Give the folder that PEFT's save_pretrained wrote, or a .npy file.");
        JsonObject config = Parse(configPath);
        string type = Text(config, "peft_type", configPath) ?? throw new InvalidDataException($"{configPath}: peft_type is missing, expected 'PROMPT_TUNING'.");
        bool several = type == "MULTITASK_PROMPT_TUNING";
        if (several && task is null)
            throw new InvalidDataException($"{folder}: reading a PEFT prompt; found the prompts of {Tasks(folder).Count} tasks. Name one by its number: {folder}#0.");
        if (!several && task is not null)
            throw new InvalidDataException($"{folder}#{task}: reading a PEFT prompt; {ConfigName} has peft_type '{type}', which is one prompt without tasks. Leave out #{task}.");
        if (type is not ("PROMPT_TUNING" or "P_TUNING" or "MULTITASK_PROMPT_TUNING"))
        {
            string why = type switch
            {
                "PREFIX_TUNING" => "A prefix changes the keys and values of every layer, it is no prompt.",
                _ => "Only prompts are read, no changes of the model's weights.",
            };
            throw new InvalidDataException($"{configPath}: peft_type is '{type}', expected 'PROMPT_TUNING', 'P_TUNING' or 'MULTITASK_PROMPT_TUNING'. {why}");
        }

        string[] candidates = [Path.Combine(folder, SafetensorsName), Path.Combine(folder, BinName)];
        string weights = candidates.FirstOrDefault(File.Exists)
            ?? throw new InvalidDataException($"{folder}: reading a PEFT prompt; {SafetensorsName} (or {BinName}) is missing beside {ConfigName}. Copy it from the place where the folder came from.");
        using TensorFile file = TensorFile.Open(weights);
        TensorShape shape = file.Describe(TensorName).Shape;
        Prompt prompt = PromptFile.Make(weights, file.ReadFloats(TensorName), shape);

        int? declaredTokens = Integer(config, "num_virtual_tokens", configPath);
        int submodules = Integer(config, "num_transformer_submodules", configPath) ?? (declaredTokens * 2 == prompt.Length ? 2 : 1);
        int tokens = declaredTokens ?? prompt.Length / submodules;
        if (submodules is not (1 or 2) || (long)tokens * submodules != prompt.Length)
        {
            throw new InvalidDataException($"{weights}: tensor '{TensorName}' has shape {shape}, {ConfigName} implies [num_virtual_tokens*num_transformer_submodules={tokens}*{submodules}, token_dim]. "
                + "The two are of different adapters: take both from one folder.");
        }
        if (Integer(config, "token_dim", configPath) is { } width && width != prompt.DModel)
            throw new InvalidDataException($"{weights}: tensor '{TensorName}' has shape {shape}, {ConfigName} implies token_dim={width}. The two are of different adapters: take both from one folder.");
        if (several && submodules != 1)
            throw new InvalidDataException($"{configPath}: num_transformer_submodules is 2 with peft_type '{type}', expected 1: the second half are prompts of the decoder, which PEFT trains with and generates without. Train it with num_transformer_submodules=1.");
        if (submodules == 2)
            prompt = new Prompt(prompt.Values[..(tokens * prompt.DModel)], tokens, prompt.DModel);
        if (several)
            prompt = OfTask(file, prompt, task!); // refused above
        prompt = prompt with { NumLayers = Integer(config, "num_layers", configPath), NumHeads = Integer(config, "num_attention_heads", configPath) };
        return WithTemplate(prompt, folder);
    }

    private static Prompt OfTask(TensorFile file, Prompt shared, string task)
    {
        TensorShape cols = file.Describe(Cols).Shape, rows = file.Describe(Rows).Shape;
        int P = shared.Length, D = shared.DModel;
        if (cols.Rank != 3 || rows.Rank != 3 || cols[0] != rows[0] || cols[1] != P || cols[2] != rows[1] || rows[2] != D || cols.Elements == 0)
            throw new InvalidDataException($"{file.Path}: reading a multi-task prompt; found {TensorName} [{P}, {D}], {Cols} {cols} and {Rows} {rows}, expected [tasks, {P}, ranks] and [tasks, ranks, {D}].");
        if (!int.TryParse(task, System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out int number) || number >= cols[0])
            throw new InvalidDataException($"{file.Path}: reading task '{task}' of a multi-task prompt; expected a number from 0 to {cols[0] - 1}.");
        int ranks = (int)cols[2];
        float[] left = file.ReadFloats(Cols), right = file.ReadFloats(Rows), values = new float[P * D];
        for (int i = 0; i < P; i++)
        {
            for (int j = 0; j < D; j++)
            {
                double sum = 0;
                for (int r = 0; r < ranks; r++)
                    sum += (double)left[((long)number * P + i) * ranks + r] * right[((long)number * ranks + r) * D + j];
                values[i * D + j] = (float)(shared.Values[i * D + j] * sum);
            }
        }
        return PromptFile.Make($"{file.Path}#{task}", values, new TensorShape(P, D));
    }

    private static Prompt WithTemplate(Prompt prompt, string folder)
    {
        string path = Path.Combine(folder, TemplateName);
        if (!File.Exists(path))
            return prompt;
        try
        {
            return prompt with { Template = PromptTemplate.Parse(File.ReadAllText(path).TrimEnd('\n', '\r')) };
        }
        catch (ArgumentException e)
        {
            throw new InvalidDataException($"{path}: {e.Message}", e);
        }
    }

    /// <summary>Writes a folder that PEFT loads: each file whole or not at all, the configuration last.</summary>
    /// <param name="folder">Made where it is missing; other files in it stay.</param>
    /// <param name="prompt">The prompt.</param>
    /// <param name="baseModel">Hub name or path of the frozen model, or null.</param>
    /// <param name="numLayers">The model's num_layers, or null.</param>
    /// <param name="numHeads">The model's num_heads, or null.</param>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public static void Write(string folder, Prompt prompt, string? baseModel = null, int? numLayers = null, int? numHeads = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        ArgumentNullException.ThrowIfNull(prompt);
        Directory.CreateDirectory(folder);
        string template = Path.Combine(folder, TemplateName);
        if (prompt.Template is not null)
            WriteText(template, prompt.Template.Source + "\n");
        else
            File.Delete(template);
        new SafetensorsWriter().Add(TensorName, new TensorShape(prompt.Length, prompt.DModel), prompt.Values).Save(Path.Combine(folder, SafetensorsName));
        WriteText(Path.Combine(folder, "README.md"), $"""
            ---
            {(baseModel is null ? "" : $"base_model: {JsonSerializer.Serialize(baseModel)}\n")}library_name: peft
            ---

            A soft prompt of {prompt.Length} virtual tokens for a T5 with d_model {prompt.DModel}, trained with IptNative.

            """);
        // The keys that every PEFT version knows: older ones fail on a key that they do not.
        var config = new JsonObject
        {
            ["base_model_name_or_path"] = baseModel,
            ["inference_mode"] = true,
            ["num_attention_heads"] = numHeads,
            ["num_layers"] = numLayers,
            ["num_transformer_submodules"] = 1,
            ["num_virtual_tokens"] = prompt.Length,
            ["peft_type"] = "PROMPT_TUNING",
            ["prompt_tuning_init"] = "RANDOM",
            ["prompt_tuning_init_text"] = null,
            ["task_type"] = "SEQ_2_SEQ_LM",
            ["token_dim"] = prompt.DModel,
            ["tokenizer_name_or_path"] = baseModel,
        };
        WriteText(Path.Combine(folder, ConfigName), config.ToJsonString(Indented) + "\n");
    }

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    private static void WriteText(string path, string text) =>
        AtomicFile.Write(path, stream => stream.Write(Encoding.UTF8.GetBytes(text.ReplaceLineEndings("\n"))));

    private static JsonObject Parse(string path)
    {
        long bytes = new FileInfo(path).Length;
        if (bytes > MaxConfigBytes)
            throw new InvalidDataException($"{path}: reading a PEFT configuration; found {bytes} bytes, expected at most {MaxConfigBytes}.");
        try
        {
            return JsonNode.Parse(JsonText.ReadFile(path), documentOptions: new JsonDocumentOptions { AllowDuplicateProperties = false }) as JsonObject
                ?? throw new InvalidDataException($"{path}: reading a PEFT configuration; found no JSON object.");
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}: reading a PEFT configuration; found broken JSON ({e.Message}). Copy it again.", e);
        }
    }

    private static string? Text(JsonObject json, string name, string path) => json[name] switch
    {
        null => null,
        JsonValue v when v.TryGetValue(out string? s) => s,
        JsonNode other => throw new InvalidDataException($"{path}: {name} is {other.ToJsonString()}, expected text."),
    };

    private static int? Integer(JsonObject json, string name, string path) => json[name] switch
    {
        null => null,
        JsonValue v when v.TryGetValue(out int n) && n > 0 => n,
        JsonNode other => throw new InvalidDataException($"{path}: {name} is {other.ToJsonString()}, expected a whole number above 0."),
    };
}
